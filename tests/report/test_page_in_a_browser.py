"""The page in headless Chromium: slider, sorting, folding, links, colours, narrow screens, paper, accessibility."""

from pathlib import Path

import browser
import pytest

pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium here to open the page in")
FAULTS = (Path(browser.__file__).parent / "accessibility.js").read_text()
SHOWN = """(() => {
    const window_ = document.querySelector(".window"), picture = window_.firstElementChild;
    const moved = window_.getBoundingClientRect().top - picture.getBoundingClientRect().top;
    return [Math.round(moved / window_.clientHeight), document.querySelector("output").textContent,
            document.querySelector("input").getAttribute("aria-valuetext")];
})()"""
# Of the 26 times of the test's trajectory, from T = 50 down to 0.
TIMES = [50 - 2 * k for k in range(26)]


@pytest.fixture(scope="module")
def chromium():
    opened = browser.Browser()
    yield opened
    opened.close()


@pytest.fixture
def page(chromium, written):
    """The page, opened anew; nothing may go wrong in it, and nothing may leave the machine."""
    chromium.errors.clear()
    chromium.requests.clear()
    chromium.open(written)
    yield chromium
    assert chromium.errors == []
    assert all(request.startswith(("file:", "data:")) for request in chromium.requests)


def at(frame):
    return [frame, f"t = {TIMES[frame]}", f"t = {TIMES[frame]} of 50"]


def test_the_slider_moves_by_arrow_keys_mouse_and_finger(page):
    assert page.run(SHOWN) == at(0)
    page.run("document.querySelector('input').focus()")
    for key, frame in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", 25), ("Home", 0)):
        page.press(key)
        assert page.run(SHOWN) == at(frame)
    page.click("input", across=0.999)
    assert page.run(SHOWN) == at(25)
    page.call("Emulation.setTouchEmulationEnabled", enabled=True)
    page.click("input", across=0.5, touch=True)
    page.call("Emulation.setTouchEmulationEnabled", enabled=False)
    assert page.run(SHOWN)[0] in (12, 13)


def test_the_slider_plays_to_its_end_and_stops(page):
    page.run("document.querySelector('input').value = 23")
    page.click(".controls button")
    assert page.run("document.querySelector('.controls button').textContent") == "Stop"
    page.run(
        "new Promise((done) => { const look = () => document.querySelector('.controls button').textContent === 'Play'"
        " ? done() : setTimeout(look, 20); look(); })"
    )
    assert page.run(SHOWN) == at(25)
    page.click(".controls button")
    page.click(".controls button")
    stopped = page.run(SHOWN)
    page.run("new Promise((done) => setTimeout(done, 400))")
    assert page.run(SHOWN) == stopped != at(25)  # it plays from the start again, and stays where it is stopped


def column(page, place):
    return page.run(
        f"Array.from(document.querySelectorAll('#table1 + .scroll tbody tr'), (row) => row.cells[{place}].textContent)"
    )


def test_a_table_sorts_by_the_heading_that_is_pressed(page):
    def press():
        page.click("#table1 + .scroll th[data-column='4'] button")

    before = column(page, 0)
    assert len(before) == 16 and column(page, 0).count("Unconditional") == 1
    press()
    fid = [float(text) for text in column(page, 4) if text]
    assert fid == sorted(fid) and len(fid) == 14 and fid[0] == 2.67
    assert column(page, 1)[:2] == ["StyleGAN2 + ADA (v1)", "Ours (Lsimple)"]
    assert column(page, 0)[:2] == ["Conditional", "Unconditional"]  # each row has its group by now
    assert column(page, 4)[-2:] == ["", ""]
    press()
    assert column(page, 4)[0] == "65.93" and column(page, 4)[-1] == ""
    assert page.run("document.querySelectorAll('[aria-sort]').length") == 1
    assert page.run("document.querySelector('[aria-sort]').getAttribute('aria-sort')") == "descending"
    page.run("document.querySelector(\"#table1 + .scroll th[data-column='1'] button\").focus()")
    page.press("Enter")
    assert column(page, 1)[0] == "BigGAN"


def test_a_number_unfolds_what_it_was_computed_from(page):
    assert not page.run("document.getElementById('digits-eps-simple').open")
    page.click("#answer tbody tr:nth-child(2) a")
    page.run("new Promise((done) => setTimeout(done, 50))")
    assert page.run("document.getElementById('digits-eps-simple').open")
    assert page.run("document.querySelector(':target').textContent") == "fid.train"
    place = page.run("document.querySelector(':target').getBoundingClientRect().top")
    assert page.run("document.querySelector('nav').getBoundingClientRect().bottom") < place < 800
    assert page.run("document.querySelector('nav').getBoundingClientRect().top") == 0  # it stays
    # Not every browser unfolds by itself.
    page.run("history.replaceState(null, '', '#digits-mu-simple'); dispatchEvent(new HashChangeEvent('hashchange'))")
    assert page.run("document.getElementById('digits-mu-simple').open")


@pytest.mark.parametrize("dark", [False, True])
def test_a_reader_finds_no_serious_fault(page, written, dark):
    page.open(written, dark=dark)
    page.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.run(FAULTS) == []
    ground = page.run("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") is not dark


def test_the_checker_finds_what_is_wrong(page):
    wrong = (
        '<h5>x</h5><img src="data:,"><a href="#x"></a><input>'
        '<p id="answer" style="color: #aaa; background: #fff">faint</p>'
    )
    page.run(f"document.querySelector('main').insertAdjacentHTML('beforeend', {wrong!r})")
    found = {fault.partition(":")[0] for fault in page.run(FAULTS)}
    assert found >= {"no alternative text", "no label", "no name", "a link to nowhere", "an id twice"}
    assert {"a heading 5 behind a heading 2", "a contrast of 2.32"} <= found
    page.errors.clear()  # of the picture that is none


def test_a_narrow_screen_scrolls_down_only(page, written):
    page.open(written, width=360, height=740)
    page.run("document.querySelector('#sure').insertAdjacentText('beforeend', 'a-long-name'.repeat(20))")
    assert page.run("document.documentElement.scrollWidth") <= 360
    assert page.run("document.querySelector('.watch').getBoundingClientRect().right") <= 360
    assert page.run(FAULTS) == []


def test_paper_shows_no_controls_and_cuts_off_no_table(page, written):
    page.open(written, width=718)  # A4 within its margins
    page.call("Emulation.setEmulatedMedia", media="print")
    for selector, shown in ((".controls", False), ("nav", False), (".moving", False), ("#table1 + .scroll", True)):
        assert (page.run(f"getComputedStyle(document.querySelector('{selector}')).display") != "none") is shown
    assert page.run("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    tables = page.run("Array.from(document.querySelectorAll('table'), (each) => each.getBoundingClientRect().right)")
    assert max(tables) <= 720
    page.call("Emulation.setEmulatedMedia", media="")
