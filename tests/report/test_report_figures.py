"""Figures: layout to the pixel, the same bytes twice, and words where there is nothing to draw."""

import io
import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from ddpm.files import DamagedFile, UserError, read_npz, write_npz
from ddpm.report.figures import NAMES, diffusion, draw, fewsteps, figure5, figure13, style
from ddpm.report.figures.samples import read_samples

STAMP = "digits, scale demo"


def sources_of(name, results, make, empty=False):
    """The inputs of a figure; `empty` ones are those of an unstable run."""
    run = results.add(make.unstable("eps-simple") if empty else make.metrics())
    if name in ("figure6", "figure13", "figure14"):
        return results.no_samples() if empty else results.shards()
    if name == "figure5":
        return [results.rate_distortion(empty=empty), run]
    if name == "figure10":
        path = results.progressive()
        if empty:
            path.write_text(path.read_text().splitlines()[0] + "\n")
        return [path, run]
    if name == "fewsteps":
        table, shard = results.few_steps(0 if empty else 100)
        return [table, run, shard]
    if name == "figure15":
        return [results.neighbours(0 if empty else 5), run]
    return [results.trajectory(0 if empty else 8), run]


def texts_of(figure: Figure) -> str:
    texts = [text.get_text() for text in figure.texts]
    texts += [text.get_text() for axes in figure.axes for text in axes.texts]
    texts += [axes.get_xlabel() + "\n" + axes.get_ylabel() for axes in figure.axes]
    return "\n".join(texts)


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved, kept for looking into."""
    kept, save = [], style.save
    monkeypatch.setattr(
        style, "save", lambda figure, outputs, stamp: (kept.append(figure), save(figure, outputs, stamp))
    )
    return kept


@pytest.mark.parametrize("name", NAMES)
def test_two_drawings_have_the_same_bytes(name, results, make, tmp_path):
    sources = sources_of(name, results, make)
    suffixes = ("png", "pdf", "svg", *(("gif",) if name == "diffusion" else ()))
    first, second = ([tmp_path / run / f"{name}.{suffix}" for suffix in suffixes] for run in ("1", "2"))
    draw(name, sources, first, STAMP)
    draw(name, sources, second, STAMP)
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert [path.read_bytes()[:4] for path in first[:3]] == [b"\x89PNG", b"%PDF", b"<?xm"]


@pytest.mark.parametrize("name", NAMES)
def test_every_picture_carries_its_stamp(name, results, make, tmp_path, drawn):
    draw(name, sources_of(name, results, make), [tmp_path / "x.png"], STAMP)
    assert STAMP in texts_of(drawn[0])


@pytest.mark.parametrize("name", NAMES)
def test_an_unstable_run_gets_a_picture_that_says_so(name, results, make, tmp_path, drawn):
    outputs = [tmp_path / f"{name}.png", *([tmp_path / f"{name}.gif"] if name == "diffusion" else [])]
    draw(name, sources_of(name, results, make, empty=True), outputs, STAMP)
    words = texts_of(drawn[0])
    assert "this run was unstable" in words and make.reason in words and "at step" in words
    assert all(path.stat().st_size > 1000 for path in outputs)


def test_an_unknown_figure_lists_the_names(tmp_path):
    with pytest.raises(UserError, match=r"figure7.*diffusion, figure5, figure6"):
        draw("figure7", [], [tmp_path / "x.png"], STAMP)


def test_an_unknown_format_is_refused(results, make, tmp_path):
    with pytest.raises(UserError, match=r"x\.jpg.*\.png, \.pdf, \.svg"):
        draw("figure5", sources_of("figure5", results, make), [tmp_path / "x.jpg"], STAMP)


# Grids


def test_image_grid_is_exact_to_the_pixel():
    images = np.arange(2 * 3 * 2 * 2, dtype=np.uint8).reshape(2, 3, 2, 2, 1)
    grid = style.image_grid(images, zoom=2, gap=1, background=255)
    assert grid.shape == (2 * 4 + 1, 3 * 4 + 2, 1) and grid.dtype == np.uint8
    expected = np.full((9, 14), 255, np.uint8)
    for i in range(2):
        for j in range(3):
            expected[i * 5 : i * 5 + 4, j * 5 : j * 5 + 4] = np.kron(images[i, j, :, :, 0], np.ones((2, 2), np.uint8))
    np.testing.assert_array_equal(grid[..., 0], expected)


def test_image_grid_keeps_colours_and_needs_no_gap():
    images = np.random.default_rng(0).integers(0, 256, (1, 2, 4, 3, 3), dtype=np.uint8)
    np.testing.assert_array_equal(style.image_grid(images, gap=0), np.concatenate([images[0, 0], images[0, 1]], axis=1))


def test_the_png_holds_the_grid_unresampled(results, tmp_path):
    """What is drawn at 200 dpi is the nearest-neighbour grid, pixel for pixel."""
    shards = results.shards()
    draw("figure13", shards, [tmp_path / "figure13.png"], STAMP)
    picture = np.asarray(Image.open(tmp_path / "figure13.png").convert("L"))
    images = np.concatenate([read_npz(path, "images")["images"] for path in shards])[:256]
    grid = style.image_grid(images.reshape(16, 16, 8, 8, 1), zoom=10, gap=3)[..., 0]
    margin = round(0.1 * style.DPI)
    np.testing.assert_array_equal(picture[margin : margin + grid.shape[0], margin : margin + grid.shape[1]], grid)


def test_figure13_fills_a_square_with_what_there_is(results):
    few = read_npz(results.shards(1, 30)[0], "images")["images"]
    grid = figure13.square(few).axes[0].images[0].get_array()
    assert grid.shape[:2] == style.image_grid(few[:25].reshape(5, 5, 8, 8, 1), 32, 10).shape[:2]


# Samples


def test_only_as_many_shards_are_read_as_are_needed(results):
    shards = results.shards(3, 100)
    shards[2].write_bytes(b"never opened")
    samples, _ = read_samples(shards, 150)
    expected = np.concatenate([read_npz(path, "images")["images"] for path in shards[:2]])[:150]
    np.testing.assert_array_equal(samples["images"], expected)
    with pytest.raises(DamagedFile, match=r"2-of-3.npz"):
        read_samples(shards, 250)


def test_previews_run_from_noise_to_the_final_sample(results, tmp_path, drawn):
    shards = results.shards()
    draw("figure6", shards, [tmp_path / "figure6.png"], STAMP)
    grid = drawn[0].axes[0].images[0].get_array()
    zoom, gap = 18, 6
    final = read_npz(shards[0], "images")["images"][0, ..., 0]
    np.testing.assert_array_equal(grid[: 8 * zoom, -8 * zoom :], np.kron(final, np.ones((zoom, zoom), np.uint8)))
    assert grid.shape == (6 * (8 * zoom + gap) - gap, 10 * (8 * zoom + gap) - gap)
    times = [text.get_text() for text in drawn[0].axes[0].texts if text.get_text().isdigit()]
    assert times == [str(t) for t in range(46, 0, -5)]  # 1-based


def test_no_previews_is_said_in_words(results, tmp_path, drawn):
    draw("figure14", results.shards(kept=0), [tmp_path / "x.png"], STAMP)
    assert "kept no predictions" in texts_of(drawn[0])


def test_a_damaged_status_is_named(results):
    (shard,) = results.shards(1)
    arrays = read_npz(shard, "images", "previews", "preview_times", "header")
    write_npz(shard, **arrays, status=np.array("sampled"))
    with pytest.raises(DamagedFile, match=r"0-of-1.npz.*status"):
        read_samples([shard], 10)


# Curves


def test_figure5_has_the_papers_axes(results, make, tmp_path, drawn):
    draw("figure5", sources_of("figure5", results, make), [tmp_path / "x.png"], STAMP)
    left, middle, right = drawn[0].axes
    assert [axes.get_xlabel()[:7] for axes in (left, middle, right)] == ["Reverse", "Reverse", "Rate (b"]
    assert [axes.get_ylabel()[:4] for axes in (left, middle, right)] == ["Dist", "Rate", "Dist"]
    x, y = left.lines[0].get_data()
    assert (x[0], x[-1]) == (49, 0)  # T - t, not Table 4's T - t + 1
    assert (y[0], y[-1]) == (1.4, 70.0)
    np.testing.assert_array_equal(right.lines[0].get_ydata(), y)
    np.testing.assert_array_equal(right.lines[0].get_xdata(), middle.lines[0].get_ydata())


def test_figure5_marks_no_single_times_of_a_thousand():
    curve = {key: np.linspace(1, 0, 1000) for key in ("reverse_time", "rate", "distortion")}
    assert figure5.panels(curve).axes[0].lines[0].get_marker() in ("", "None")


def test_figure10_names_the_classifier(results, make, tmp_path, drawn):
    draw("figure10", sources_of("figure10", results, make), [tmp_path / "x.png"], STAMP)
    score, fid = drawn[0].axes
    assert score.get_ylabel() == "Inception Score (digits classifier)"
    assert fid.get_ylabel() == "FID (digits classifier)"
    assert len(fid.lines) == 2


def test_fewsteps_is_fid_left_and_score_right_with_ancestral_sampling_dashed(results, make, tmp_path, drawn):
    draw("fewsteps", sources_of("fewsteps", results, make), [tmp_path / "x.png"], STAMP)
    fid, score = drawn[0].axes[:2]
    assert fid.get_ylabel().startswith("FID") and score.get_ylabel().startswith("Inception Score")
    assert all("digits classifier" in axes.get_ylabel() and axes.get_xscale() == "log" for axes in (fid, score))
    for axes, first, dashed in ((fid, 150.0, 12.345), (score, 5.5, 7.21)):
        *curves, ancestral = axes.lines
        assert [curve.get_xdata().tolist() for curve in curves] == [[2, 5, 10], [2, 5, 10]]
        assert curves[0].get_ydata()[0] == first
        assert set(ancestral.get_ydata()) == {dashed} and ancestral.get_linestyle() == "--"
    labels = [text.get_text() for text in fid.get_legend().get_texts()]
    assert labels == ["DDIM, η = 0", "DDIM, η = 1", "ancestral, all 50 steps"]
    words = texts_of(drawn[0])
    assert "An addition: few steps with DDIM (Song et al. 2021), in no table or figure of the paper" in words
    assert "100 images per point, 300 for ancestral sampling" in words


def test_fewsteps_shows_eta_zero_from_the_same_noise_in_each_column(results, make, tmp_path, drawn):
    *_, shard = sources = sources_of("fewsteps", results, make)
    draw("fewsteps", sources, [tmp_path / "x.png"], STAMP)
    images = read_npz(shard, "images")["images"]
    shown = drawn[0].axes[2].images[0].get_array()
    columns = (shown.shape[1] + 2) // (7 * 8 + 2)
    assert 18 <= columns <= 22
    np.testing.assert_array_equal(shown, style.image_grid(images[:columns, :3].swapaxes(0, 1), 7, 2)[..., 0])
    picture = np.asarray(Image.open(tmp_path / "x.png").convert("L"))
    left, bottom = round(fewsteps.LEFT * style.DPI), round(fewsteps.BELOW * style.DPI)
    height, width = shown.shape
    drawn_at = picture[-bottom - height : -bottom, left : left + width]
    np.testing.assert_allclose(drawn_at.astype(int), shown, atol=1)  # unresampled; the grey map rounds


def test_fewsteps_of_which_a_later_shard_is_unstable_says_so(results, make, tmp_path, drawn):
    table, run, shard = sources_of("fewsteps", results, make)
    draw("fewsteps", [table, run, shard, results.few_steps(0, part=2)[1]], [tmp_path / "x.png"], STAMP)
    assert make.reason in texts_of(drawn[0])


def test_fewsteps_needs_no_ancestral_numbers(results, make, tmp_path, drawn):
    table, run, shard = sources_of("fewsteps", results, make)
    run.write_text(json.dumps(make.unstable("eps-simple")))
    draw("fewsteps", [table, run, shard], [tmp_path / "x.png"], STAMP)
    assert [len(axes.lines) for axes in drawn[0].axes[:2]] == [2, 2]


@pytest.mark.parametrize("name", ["figure6", "figure13", "figure14"])
def test_few_step_samples_are_in_no_figure_of_the_paper(name, results, tmp_path):
    _, shard = results.few_steps()
    with pytest.raises(UserError, match=r"few_steps/1-of-2\.npz: .*DDIM sampler, where the ancestral sampler's belong"):
        draw(name, [shard], [tmp_path / "x.png"], STAMP)


@pytest.mark.parametrize("name", ["figure5", "figure10"])
def test_few_step_scores_are_in_no_curve_of_the_paper(name, results, make, tmp_path):
    table, _ = results.few_steps()
    with pytest.raises(UserError, match=r"few_steps\.csv: has the columns"):
        draw(name, [table, results.add(make.metrics())], [tmp_path / "x.png"], STAMP)


def test_figure15_sets_the_sample_apart(results, make, tmp_path, drawn):
    draw("figure15", sources_of("figure15", results, make), [tmp_path / "x.png"], STAMP)
    sample, pixel, other_sample, feature = drawn[0].axes[0].images
    np.testing.assert_array_equal(sample.get_array(), other_sample.get_array())
    assert not np.array_equal(pixel.get_array(), feature.get_array())
    gap_between_neighbours = 3
    assert pixel.get_extent()[0] - sample.get_extent()[1] > 5 * gap_between_neighbours
    assert "digits classifier" in texts_of(drawn[0])


# The idea


def test_the_strip_reads_q_to_noise_and_p_to_an_image(results, tmp_path, drawn):
    path = results.trajectory()
    draw("diffusion", [path], [tmp_path / "x.png"], STAMP)
    arrays = read_npz(path, "times", "q", "p")
    zoom = drawn[0].axes[0].images[0].get_array().shape[0] // 8
    shown = [image.get_array()[::zoom, ::zoom] for image in drawn[0].axes[0].images]  # one pixel in zoom x zoom
    np.testing.assert_array_equal(shown[0], arrays["q"][0, -1, ..., 0])
    np.testing.assert_array_equal(shown[8], arrays["q"][0, 0, ..., 0])
    np.testing.assert_array_equal(shown[9], arrays["p"][0, 0, ..., 0])
    np.testing.assert_array_equal(shown[17], arrays["p"][0, -1, ..., 0])
    labels = [text.get_text() for text in drawn[0].axes[0].texts if text.get_text().startswith("t =")]
    assert labels[0] == "t = 0 (image)" == labels[-1]
    assert labels[8] == "t = 50 (noise)" == labels[9]


@pytest.mark.parametrize("kind", ["results", "colour_results"])
def test_the_animation_is_small_loops_and_rests_at_the_end(kind, request, tmp_path):
    path = request.getfixturevalue(kind).trajectory(m=8, points=51)
    draw("diffusion", [path], [tmp_path / "x.gif"], STAMP)
    data = (tmp_path / "x.gif").read_bytes()
    assert len(data) < 400_000
    animation = Image.open(io.BytesIO(data))
    assert animation.n_frames >= 10 and animation.info["loop"] == 0
    durations = []
    for k in range(animation.n_frames):
        animation.seek(k)
        durations.append(animation.info["duration"])
    assert durations[-1] == diffusion.HOLD_MS > 5 * max(durations[1:-1])


def test_the_status_of_an_unstable_shard_is_read(results, make):
    samples, status = read_samples(results.no_samples(), 5)
    assert len(samples["images"]) == 0
    assert status == {"status": "unstable", "step": 17, "reason": make.reason}
