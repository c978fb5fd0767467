"""Figures: the same bytes twice, stamps, files and formats, and words where there is nothing to draw."""

from pathlib import Path

import pytest
from drawing import STAMP, sources_of, texts_of

from ddpm.config.errors import UserError
from ddpm.report.figures import (
    MODULES,
    NAMES,
    draw,
    grids,
)

DRAWN_ALIKE = {module: name for name, module in MODULES.items()}  # one figure of each module
OF_A_RUN = [name for name in NAMES if name not in ("figure2", "reproduced")]  # these are of no run, or of many


@pytest.mark.parametrize("name", DRAWN_ALIKE.values())
def test_two_drawings_have_the_same_bytes_and_the_stamp(name, results, make, tmp_path, drawn):
    sources = sources_of(name, results, make)
    suffixes = ("png", "pdf", "svg", *(("gif",) if name == "diffusion" else ()))
    first, second = ([tmp_path / run / f"{name}.{suffix}" for suffix in suffixes] for run in ("1", "2"))
    draw(name, sources, first, STAMP)
    draw(name, sources, second, STAMP)
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert [path.read_bytes()[:4] for path in first[:3]] == [b"\x89PNG", b"%PDF", b"<?xm"]
    assert STAMP in texts_of(drawn[0])


@pytest.mark.parametrize("name", [name for name in NAMES if name not in DRAWN_ALIKE.values()])
def test_every_other_picture_carries_its_stamp(name, results, make, tmp_path, drawn):
    draw(name, sources_of(name, results, make), [tmp_path / "x.png"], STAMP)
    assert STAMP in texts_of(drawn[0])


@pytest.mark.parametrize("name", OF_A_RUN)
def test_an_unstable_run_gets_a_picture_that_says_so(name, results, make, tmp_path, drawn):
    outputs = [tmp_path / f"{name}.png", *([tmp_path / f"{name}.gif"] if name == "diffusion" else [])]
    draw(name, sources_of(name, results, make, empty=True), outputs, STAMP)
    words = texts_of(drawn[0])
    assert "this run was unstable" in words and make.reason in words and "at step" in words
    assert all(path.stat().st_size > 1000 for path in outputs)


def test_an_unknown_figure_lists_the_names(tmp_path):
    with pytest.raises(UserError, match=r"figure99.*diffusion, figure1, figure2, .*figure19, fewsteps"):
        draw("figure99", [], [tmp_path / "x.png"], STAMP)


def test_an_unknown_format_is_refused(results, make, tmp_path):
    with pytest.raises(UserError, match=r"x\.jpg.*\.png, \.pdf, \.svg"):
        draw("figure5", sources_of("figure5", results, make), [tmp_path / "x.jpg"], STAMP)


def test_every_figure_has_a_module_and_every_module_a_figure():
    folder = Path(grids.__file__).parent
    helpers = {"__init__", "charts", "samples", "style"}
    assert {path.stem for path in folder.glob("*.py")} - helpers == set(MODULES.values())
    assert {f"figure{number}" for number in range(1, 20)} < set(NAMES)
