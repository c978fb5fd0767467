"""Figures: layout to the pixel, the same bytes twice, and words where there is nothing to draw."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from records import read_records
from torchvision.utils import make_grid

from ddpm.config.errors import DamagedFile, UserError
from ddpm.report.figures import (
    MODULES,
    NAMES,
    diffusion,
    draw,
    fewsteps,
    figure1,
    figure5,
    grids,
    reproduced,
    style,
    training_curve,
)
from ddpm.report.figures.samples import read_samples
from ddpm.report.inputs import PUBLISHED
from ddpm.report.tables import make_table
from ddpm.storage.files import read_npz, write_npz
from ddpm.storage.tables import read_curve

STAMP = "digits, scale demo"


DRAWN_ALIKE = {module: name for name, module in MODULES.items()}  # one figure of each module
OF_A_RUN = [name for name in NAMES if name not in ("figure2", "reproduced")]  # these are of no run, or of many


def sources_of(name, results, make, empty=False):
    """The inputs of a figure; `empty` ones are those of an unstable run."""
    run = results.add(make.unstable("eps-simple") if empty else make.metrics())
    match name:
        case "figure1":
            right = results.no_samples() if empty else results.shards()
            return [*results.shards(1, 20, experiment="faces-eps-simple"), *right]
        case "figure2":
            return []
        case "figure5":
            return [results.rate_distortion(empty=empty), run]
        case "figure7":
            return [results.latents(0 if empty else 2)]
        case "figure8" | "figure9":
            return [results.interpolation(0 if empty else 2)]
        case "figure10":
            path = results.progressive()
            if empty:
                path.write_text(path.read_text().splitlines()[0] + "\n")
            return [path, run]
        case "figure12":
            return [results.neighbours(0 if empty else 5, crop=(1, 2, 5, 4)), run]
        case "figure15":
            return [results.neighbours(0 if empty else 5), run]
        case "diffusion":
            return [results.trajectory(0 if empty else 8), run]
        case "fewsteps":
            table, shard = results.few_steps(0 if empty else 100)
            return [table, run, shard]
        case "training-curve":
            return (
                [results.history(0 if empty else 60), run] if empty else [results.history(), *results.snapshots(), run]
            )
        case "reproduced":
            return tables_of(results, [run])
    return results.no_samples() if empty else results.shards()  # of figures that are made of samples


def tables_of(results, metrics):
    """The CSV files of all tables."""
    found = []
    for name in ("table1", "table2", "table4"):
        files = [results.root / "tables" / f"{name}.{suffix}" for suffix in ("csv", "md", "tex", "html")]
        make_table(name, metrics, [results.rate_distortion(1000)] if name == "table4" else [], *files)
        found.append(files[0])
    return found


def texts_of(figure: Figure) -> str:
    texts = [text.get_text() for text in figure.texts]
    texts += [text.get_text() for axes in figure.axes for text in axes.texts]
    texts += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
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


def test_several_figures_go_into_the_files_of_their_names(results, make, tmp_path):
    sources, alone, outputs = results.shards(), tmp_path / "alone.png", {}
    for name in ("figure6", "figure13"):
        outputs[name] = [tmp_path / f"{name}.{suffix}" for suffix in ("png", "pdf")]
    draw("figure6,figure13", sources, [*outputs["figure13"], *outputs["figure6"]], STAMP)
    for name, files in outputs.items():
        draw(name, sources, [alone], STAMP)
        assert files[0].read_bytes() == alone.read_bytes()
        assert files[1].exists()


@pytest.mark.parametrize(
    ("names", "outputs", "words"),
    [
        ("figure6,figure13", ["figure6.png"], "no file for figure13"),
        ("figure6,figure13", ["figure6.png", "figure13.png", "figure14.png"], "figure14.png has the name of no figure"),
        ("figure6,figure99", ["figure6.png", "figure99.png"], "figure99"),
    ],
)
def test_files_that_do_not_fit_the_names_are_refused_before_anything_is_drawn(names, outputs, words, tmp_path):
    with pytest.raises(UserError, match=words):
        draw(names, [], [tmp_path / output for output in outputs], STAMP)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_is_refused(results, make, tmp_path):
    with pytest.raises(UserError, match=r"x\.jpg.*\.png, \.pdf, \.svg"):
        draw("figure5", sources_of("figure5", results, make), [tmp_path / "x.jpg"], STAMP)


# Grids


def test_image_grid_is_exact_to_the_pixel():
    images = np.arange(2 * 3 * 2 * 2, dtype=np.uint8).reshape(2, 3, 2, 2, 1)
    grid = style.make_grid(images, zoom=2, gap=1, background=255)
    assert grid.shape == (2 * 4 + 1, 3 * 4 + 2, 1) and grid.dtype == np.uint8
    expected = np.full((9, 14), 255, np.uint8)
    for i in range(2):
        for j in range(3):
            expected[i * 5 : i * 5 + 4, j * 5 : j * 5 + 4] = np.kron(images[i, j, :, :, 0], np.ones((2, 2), np.uint8))
    np.testing.assert_array_equal(grid[..., 0], expected)


def test_image_grid_keeps_colours_and_needs_no_gap():
    images = np.random.default_rng(0).integers(0, 256, (1, 2, 4, 3, 3), dtype=np.uint8)
    np.testing.assert_array_equal(style.make_grid(images, gap=0), np.concatenate([images[0, 0], images[0, 1]], axis=1))


def test_image_grid_is_torchvisions_without_the_outer_margin():
    """Which figures do not use, as it takes four CPU seconds to load and enlarges nothing."""
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 8, 5, 3), dtype=np.uint8)
    tensors = torch.from_numpy(images.reshape(12, 8, 5, 3)).permute(0, 3, 1, 2)
    theirs = make_grid(tensors, nrow=4, padding=2, pad_value=255).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(style.make_grid(images, gap=2), theirs[2:-2, 2:-2])


def test_the_png_holds_the_grid_unresampled(results, tmp_path):
    """What is drawn at 200 dpi is the nearest-neighbour grid, pixel for pixel."""
    shards = results.shards()
    draw("figure13", shards, [tmp_path / "figure13.png"], STAMP)
    picture = np.asarray(Image.open(tmp_path / "figure13.png").convert("L"))
    images = np.concatenate([read_npz(path, "images")["images"] for path in shards])[:256]
    grid = style.make_grid(images.reshape(16, 16, 8, 8, 1), zoom=10, gap=3)[..., 0]
    margin = round(0.1 * style.DPI)
    np.testing.assert_array_equal(picture[margin : margin + grid.shape[0], margin : margin + grid.shape[1]], grid)


def test_figure13_fills_a_square_with_what_there_is(results):
    few = read_npz(results.shards(1, 30)[0], "images")["images"]
    grid = grids.square(few, 16).axes[0].images[0].get_array()
    assert grid.shape[:2] == style.make_grid(few[:25].reshape(5, 5, 8, 8, 1), 32, 10).shape[:2]


def test_every_figure_has_a_module_and_every_module_a_figure():
    folder = Path(grids.__file__).parent
    helpers = {"__init__", "charts", "samples", "style"}
    assert {path.stem for path in folder.glob("*.py")} - helpers == set(MODULES.values())
    assert {f"figure{number}" for number in range(1, 20)} < set(NAMES)


def test_images_are_enlarged_or_averaged_down_by_whole_factors():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    assert style.fit_images(images, 10, 400)[1] == 5
    assert style.fit_images(images, 10, 400)[0] is images
    small, zoom = style.fit_images(images, 10, 400, most=30)  # 80 pixels into 30
    assert (small.shape, zoom) == ((3, 2, 2, 3), 20)
    corner = images[:, :3, :3].astype(float).mean((1, 2))
    assert np.abs(small[:, 0, 0] - corner).max() <= 0.5


@pytest.mark.parametrize(
    ("name", "side"), [("figure3", 4), ("figure4", 4), ("figure11", 10), ("figure13", 16), ("figure16", 7)]
)
def test_grids_have_their_stated_sides(name, side, results, tmp_path, drawn):
    shards = results.shards()
    draw(name, shards, [tmp_path / "x.png"], STAMP)
    images = np.concatenate([read_npz(path, "images")["images"] for path in shards])[: side**2]
    zoom = 1280 // (8 * side)
    expected = style.make_grid(images.reshape(side, side, 8, 8, 1), zoom, max(2, 8 * zoom // 24))
    np.testing.assert_array_equal(drawn[0].axes[0].images[0].get_array(), expected[..., 0])


@pytest.mark.parametrize("name", [name for name, module in MODULES.items() if module == "grids"])
def test_large_images_make_no_enormous_file(name, tmp_path):
    """Photographs of 256x256 pixels take some 2.2 bytes a pixel as PNG: 3.6 million of them are 8 MB."""
    images = np.zeros((256, 256, 256, 3), np.uint8)
    figure = grids.square(images, grids.SIDES[name])
    height, width = figure.axes[0].images[0].get_array().shape[:2]
    assert 1000 < width == height < 1900


def test_a_grid_tells_its_own_fid_where_it_was_measured(results, make, tmp_path, drawn):
    shards, run = results.shards(), results.add(make.metrics())
    for sources in (shards, [*shards, run]):
        draw("figure16", sources, [tmp_path / "x.png"], STAMP)
    assert "FID" not in texts_of(drawn[0])
    assert "FID 12.35: 300 samples, against the training set (digits classifier)" in texts_of(drawn[1])
    run.write_text(json.dumps(make.unstable("eps-simple")))
    draw("figure16", [*shards, run], [tmp_path / "x.png"], STAMP)
    assert "FID" not in texts_of(drawn[2])


def test_figure1_has_the_first_experiment_on_the_left(results, tmp_path, drawn):
    left = results.shards(1, 20, experiment="faces-eps-simple")
    draw("figure1", [*left, *results.shards(2, 100)], [tmp_path / "x.png"], STAMP)
    pictures = drawn[0].axes[0].images
    assert len(pictures) == 4**2 + 8**2
    for picture, count in ((pictures[0], 4), (pictures[16], 8)):
        zoom = picture.get_array().shape[0] // 8
        assert zoom == (figure1.PANEL - 2 * (count - 1)) // (8 * count)
    starts = [picture.get_extent()[0] for picture in pictures]
    assert max(starts[:16]) < figure1.PANEL < min(starts[16:])
    for block in (pictures[:16], pictures[16:]):  # both are as high and as wide as their panel
        assert min(picture.get_extent()[3] for picture in block) == 0
        assert max(picture.get_extent()[2] for picture in block) == figure1.PANEL
    first = read_npz(left[0], "images")["images"][:16]
    for picture, image in zip(pictures[:16], first, strict=True):
        zoom = picture.get_array().shape[0] // 8
        np.testing.assert_array_equal(picture.get_array()[::zoom, ::zoom], image[..., 0])


def test_figure2_runs_from_noise_to_image_and_q_back(tmp_path, drawn):
    draw("figure2", [], [tmp_path / "x.png"], STAMP)
    words = texts_of(drawn[0])
    assert "p_\\theta(x_{t-1} | x_t)" in words and "q(x_t | x_{t-1})" in words
    (axes,) = drawn[0].axes
    at = {text.get_text(): text.get_position()[0] for text in axes.texts}
    assert at["$x_T$"] < at["$x_t$"] < at["$x_{t-1}$"] < at["$x_0$"]
    arrows = [patch for patch in axes.patches if hasattr(patch, "_posA_posB")]
    ends = {arrow.get_linestyle(): [] for arrow in arrows}
    for arrow in arrows:
        start, end = arrow._posA_posB
        ends[arrow.get_linestyle()].append(end[0] - start[0])
    (back,), forward = ends["--"], ends["-"]
    assert back < 0 and len(forward) == 5 and min(forward) > 0


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


@pytest.mark.parametrize("total", [1000, 50])
def test_figure5_has_the_papers_points_at_its_fraction_of_T(total, results, make, tmp_path, drawn):
    run = results.add(make.metrics())
    draw("figure5", [results.rate_distortion(total), run], [tmp_path / "x.png"], STAMP)
    paper = read_curve(PUBLISHED / "table4.csv", "reverse_time", "rate", "distortion")
    left, middle, right = ((axes.lines[1].get_xdata(), axes.lines[1].get_ydata()) for axes in drawn[0].axes)
    steps = paper["reverse_time"] * total / 1000 - 1
    for (x, y), expected in (
        (left, (steps, paper["distortion"])),
        (middle, (steps, paper["rate"])),
        (right, (paper["rate"], paper["distortion"])),
    ):
        np.testing.assert_allclose(x, expected[0])
        np.testing.assert_allclose(y, expected[1])
    assert drawn[0].axes[0].lines[1].get_markerfacecolor() == "none"


def test_figure5_names_our_data_where_they_are_not_the_papers(results, make, tmp_path, drawn):
    copy = make.metrics(data={"name": "cifar10", "title": "JPEG copy of CIFAR-10"})
    for run in (make.metrics(), make.as_published("eps-simple", 9.4, 0.1, 3.2), copy):
        draw("figure5", [results.rate_distortion(), results.add(run)], [tmp_path / "x.png"], STAMP)
    legends = [[text.get_text() for text in figure.legends[0].get_texts()] for figure in drawn]
    ours = ("here (Handwritten digits)", "here", "here (JPEG copy of CIFAR-10)")
    assert legends == [[data, "paper, Table 4 (CIFAR-10)"] for data in ours]


def test_figure5_marks_no_single_times_of_a_thousand():
    curve = {key: np.linspace(1, 0, 1000) for key in ("reverse_time", "rate", "distortion")}
    assert figure5.panels(curve, "here").axes[0].lines[0].get_marker() in ("", "None")


def test_figure10_names_the_classifier(results, make, tmp_path, drawn):
    draw("figure10", sources_of("figure10", results, make), [tmp_path / "x.png"], STAMP)
    score, fid = drawn[0].axes
    assert score.get_ylabel() == "Inception Score\n(digits classifier)"
    assert fid.get_ylabel() == "FID\n(digits classifier)"
    assert len(fid.lines) == 2


@pytest.mark.parametrize("name", ["figure10", "training-curve"])
def test_a_test_set_that_is_not_there_has_no_curve_and_no_name(name, results, make, tmp_path, drawn):
    sources = sources_of(name, results, make)
    (path,) = [path for path in sources if path.name in ("progressive.csv", "snapshots.csv")]
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *(line.rpartition(",")[0] + ",nan" for line in lines)]) + "\n")
    draw(name, sources, [tmp_path / "x.png"], STAMP)
    (legend,) = [axes.get_legend() for axes in drawn[0].axes if axes.get_ylabel().startswith("FID")]
    words = [text.get_text() for text in legend.get_texts()]
    assert "against the training set" in words and "against the test set" not in words


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
    np.testing.assert_array_equal(shown, style.make_grid(images[:columns, :3].swapaxes(0, 1), 7, 2)[..., 0])
    picture = np.asarray(Image.open(tmp_path / "x.png").convert("L"))
    left, bottom = round(fewsteps.LEFT * style.DPI), round(fewsteps.BELOW * style.DPI)
    height, width = shown.shape
    drawn_at = picture[-bottom - height : -bottom, left : left + width]
    np.testing.assert_allclose(drawn_at.astype(int), shown, atol=1)  # unresampled; the grey map rounds


def test_fewsteps_of_which_a_later_shard_is_unstable_says_so(results, make, tmp_path, drawn):
    table, run, shard = sources_of("fewsteps", results, make)
    draw("fewsteps", [table, run, shard, results.few_steps(0, part=2)[1]], [tmp_path / "x.png"], STAMP)
    assert make.reason in texts_of(drawn[0])


def test_figure1_shows_one_experiment_twice_where_it_stands_for_both(results, tmp_path, drawn):
    draw("figure1", results.shards(2, 100), [tmp_path / "x.png"], STAMP)
    pictures = drawn[0].axes[0].images
    assert len(pictures) == 4**2 + 8**2
    assert pictures[16].get_extent()[0] > figure1.PANEL


def test_fewsteps_needs_no_ancestral_numbers(results, make, tmp_path, drawn):
    table, run, shard = sources_of("fewsteps", results, make)
    run.write_text(json.dumps(make.unstable("eps-simple")))
    draw("fewsteps", [table, run, shard], [tmp_path / "x.png"], STAMP)
    assert [len(axes.lines) for axes in drawn[0].axes[:2]] == [2, 2]


@pytest.mark.parametrize("name", ["figure1", "figure3", "figure6", "figure7", "figure8", "figure13", "figure14"])
def test_few_step_samples_are_in_no_figure_of_the_paper(name, results, tmp_path):
    _, shard = results.few_steps()
    with pytest.raises(UserError, match=r"few_steps/1-of-2\.npz: .*DDIM sampler, where the .* sampler's belong"):
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


def test_figure12_frames_the_crop_and_says_so(results, make, tmp_path, drawn):
    draw("figure12", sources_of("figure12", results, make), [tmp_path / "x.png"], STAMP)
    (axes,) = drawn[0].axes
    frames = [patch for patch in axes.patches if patch.get_width() > 1]
    assert len(frames) == 2 * 5
    sample = axes.images[0].get_array()
    zoom = (sample.shape[0] - 4 * 3) / (5 * 8)
    assert frames[0].get_xy() == (2 * zoom, 1 * zoom)
    assert (frames[0].get_height(), frames[0].get_width()) == (5 * zoom, 4 * zoom)
    words = texts_of(drawn[0])
    assert "nearest first by their 5×4 crop" in words and "digits classifier" in words
    assert "pixel space" in words and "feature space" in words
    draw("figure15", sources_of("figure15", results, make), [tmp_path / "x.png"], STAMP)
    assert "crop" not in texts_of(drawn[1]) and not drawn[1].axes[0].patches


def test_neighbours_of_large_images_stand_one_above_the_other(make, tmp_path, drawn):
    rng = np.random.default_rng(0)
    samples, pixel, feature = (rng.integers(0, 256, (*n, 256, 256, 3), dtype=np.uint8) for n in ((2,), (2, 9), (2, 9)))
    write_npz(tmp_path / "n.npz", samples=samples, pixel=pixel, feature=feature, crop=np.array([80, 78, 100, 100]))
    draw("figure12", [tmp_path / "n.npz"], [tmp_path / "x.png"], STAMP)
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.width < 2000
    _, above, _, below = drawn[0].axes[0].images
    assert above.get_extent()[0] == below.get_extent()[0]
    assert above.get_extent()[2] < below.get_extent()[3]
    np.testing.assert_array_equal(above.get_array()[:128, :128], style.shrink(pixel[0, 0], 2))


# Shared latents and interpolations


def test_figure7_has_three_samples_and_their_latent_bottom_right(results, tmp_path, drawn):
    path = results.latents()
    draw("figure7", [path], [tmp_path / "x.png"], STAMP)
    arrays = read_npz(path, "latents", "images")
    (axes,) = drawn[0].axes
    assert len(axes.images) == 2 * 4
    for tile, (column, row) in zip(axes.images, ((c, r) for c in range(4) for r in range(2)), strict=True):
        picture = tile.get_array()
        zoom = 1440 // 64
        inner = picture.shape[0] - 16 * zoom
        cells = [
            picture[y:, x:][: 8 * zoom : zoom, : 8 * zoom : zoom]
            for y in (0, 8 * zoom + inner)
            for x in (0, 8 * zoom + inner)
        ]
        for cell, image in zip(cells, [*arrays["images"][row, column], arrays["latents"][row, column]], strict=True):
            np.testing.assert_array_equal(cell, image[..., 0])
    left = [tile.get_extent()[0] for tile in axes.images[::2]]
    assert left == sorted(left)
    assert [text.get_text() for text in axes.texts] == [f"share $x_{{{t}}}$" for t in (1000, 750, 500, 250)]


COLUMNS = ["Source", "Rec.", *(f"λ = 0.{k}" for k in range(1, 10)), "Rec.", "Source"]


@pytest.mark.parametrize("name", ["figure8", "figure9"])
def test_interpolations_run_from_source_to_source(name, results, tmp_path, drawn):
    """Figure 8 has a row per pair, Figure 9 one per number of steps, and both have the paper's thirteen columns."""
    path = results.interpolation(3, (500,)) if name == "figure8" else results.interpolation(2, (1000, 500, 0))
    draw(name, [path], [tmp_path / "x.png"], STAMP)
    arrays = read_npz(path, "sources", "images")
    picture = drawn[0].axes[0].images[0].get_array()
    zoom = 1440 // (13 * 8)
    pitch = 8 * zoom + max(2, 8 * zoom // 24)
    for row in range(3):
        sources = arrays["sources"][row if name == "figure8" else 0]
        images = arrays["images"][row, 0] if name == "figure8" else arrays["images"][0, row]
        for column, image in enumerate([sources[0], *images, sources[1]]):
            cell = picture[row * pitch :, column * pitch :][: 8 * zoom : zoom, : 8 * zoom : zoom]
            np.testing.assert_array_equal(cell, image[..., 0])
    assert picture.shape[0] == 2 * pitch + 8 * zoom
    texts = [text.get_text() for text in drawn[0].axes[0].texts]
    assert texts[:13] == COLUMNS
    if name == "figure9":
        assert texts[13:] == ["1000 steps", "500 steps", "0 steps"]


def test_figure8_draws_what_is_done_and_for_how_many_steps(results, tmp_path, drawn):
    for timesteps, steps, words in ((1000, 500, "500 steps"), (20, 10, "10 of 20 steps")):
        draw("figure8", [results.interpolation(1, (steps,), timesteps)], [tmp_path / "x.png"], STAMP)
        schematic = [text.get_text() for text in drawn[-1].axes[1].texts]
        assert f"diffuse for {words}, mix, denoise" in schematic
        assert {"q", "p", "$x_0$", "$x'_0$", "$x_t$", "$x'_t$", "$\\bar{x}_t$", "$\\bar{x}_0$"} <= set(schematic)


# The training


def test_the_training_curve_has_loss_fid_and_previews_over_time(results, make, tmp_path, drawn):
    run = make.metrics()
    run["made_from"]["weights"] = {"step": 2500}
    sources = [results.history(), *results.snapshots(), results.add(run)]
    draw("training-curve", sources, [tmp_path / "x.png"], STAMP)
    loss, fid, strip = drawn[0].axes
    logged, median = loss.lines
    np.testing.assert_array_equal(logged.get_xdata(), np.arange(50, 3001, 50))
    assert logged.get_alpha() < 1 and (loss.get_xscale(), loss.get_yscale()) == ("log", "log")
    middle = slice(2, -2)  # every seventh value is five times too large; the median knows none of them
    np.testing.assert_allclose(median.get_ydata()[middle] * np.sqrt(median.get_xdata()[middle]), 1, rtol=0.25)
    train, test, kept = fid.lines
    assert (train.get_ydata()[0], test.get_ydata()[0]) == (303, 304)
    assert set(kept.get_xdata()) == {2500}
    assert "1,000 samples" in fid.get_ylabel()

    shown = [0, 2, 3, 5, 6, 8, 9, 11]
    labels = [text.get_text() for text in strip.texts]
    assert labels[:8] == [f"{250 * (k + 1):,}" for k in shown]
    assert labels[9:] == ["averaged\n(EMA)", "raw"]
    picture = strip.images[0].get_array()
    arrays = read_npz(sources[2], "ema", "raw")
    tile = 2 * 8 * 8 + 2  # two by two images eight times as large, and a gap
    for row, kind in ((0, "ema"), (picture.shape[0] - tile, "raw")):
        np.testing.assert_array_equal(picture[row:, :64][:64:8, ::8], arrays[kind][0, 0, ..., 0])
        np.testing.assert_array_equal(picture[row + 66 :, -64:][:64:8, ::8], arrays[kind][11, 3, ..., 0])


def test_a_training_without_snapshots_is_a_loss_curve(results, tmp_path, drawn):
    draw("training-curve", [results.history()], [tmp_path / "x.png"], STAMP)
    assert [axes.get_ylabel() for axes in drawn[0].axes] == ["Loss"]


def test_an_unstable_training_shows_how_it_went(results, make, tmp_path, drawn):
    history = results.history()
    history.write_text(history.read_text() + "3050,nan,nan,0.001\n")
    run = results.add(make.unstable("eps-simple"))
    draw("training-curve", [history, run], [tmp_path / "x.png"], STAMP)
    assert len(drawn[0].axes[0].lines[0].get_xdata()) == 60
    assert f"this run was unstable. It ended at step 1,234: {make.reason}." in texts_of(drawn[0])


def test_running_median_is_symmetric():
    values = np.array([9.0, 1, 2, 30, 4, 5, 6])
    assert training_curve.running_median(values, 5).tolist() == [9, 2, 4, 4, 5, 5, 6]
    assert [training_curve.running_window(n) for n in (5, 10, 400, 420, 8000)] == [1, 5, 11, 11, 201]


# All numbers


def markers_of(axes):
    """(x, y), hollow or not, and the error bars of every point of a panel, of which no two are the same."""
    found = {
        (bars.lines[0].get_xdata()[0], bars.lines[0].get_ydata()[0]): (
            bars.lines[0].get_markerfacecolor() == "white",
            [np.ptp(bar.get_segments()[0], axis=0).max().round(6) / 2 for bar in bars.lines[2]],
        )
        for bars in axes.containers
    }
    assert len(found) == len(axes.containers)
    return found


def test_every_number_of_every_table_is_drawn_once(results, make, tmp_path, drawn):
    runs = [make.as_published("eps-simple", 9.4, 0.1, 3.3), make.as_published("eps-vlb-fixed", 7.5, 0.2, 13.9)]
    few = {"text": "300 sample images", "affects": ["is", "fid_train"]}
    runs.append(make.as_published("mu-vlb-fixed", 8.0, 0.3, 13.6) | {"deviations": [few]})
    runs.append(make.as_published("mu-simple", 8.0, 0.3, 13.6))  # blank in the paper
    tables = tables_of(results, [results.add(run) for run in runs])
    draw("reproduced", tables, [tmp_path / "x.png"], STAMP)
    panels = {axes.get_title().partition(" (")[0]: axes for axes in drawn[0].axes}
    assert list(panels) == ["Inception Score", "FID", "NLL", "Rate", "Distortion"]
    assert markers_of(panels["Inception Score"]) == {
        (9.46, 9.4): (False, [0.11, 0.1]),
        (7.67, 7.5): (False, [0.13, 0.2]),
        (8.06, 8.0): (True, [0.09, 0.3]),
    }
    expected = {(3.17, 3.3): False, (5.24, 5.3): False, (13.51, 13.9): False, (13.22, 13.6): True}
    assert {point: hollow for point, (hollow, _) in markers_of(panels["FID"]).items()} == expected
    assert len(markers_of(panels["NLL"])) == 4
    rows = read_records(tables[2], "Rate (bits/dim), paper", "Rate (bits/dim), cifar10")
    curve = {(float(row["Rate (bits/dim), paper"]), float(row["Rate (bits/dim), cifar10"])) for row in rows}
    assert set(markers_of(panels["Rate"])) == curve and len(curve) == 10
    assert panels["Rate"].get_xscale() == panels["Rate"].get_yscale() == "symlog"
    assert panels["Distortion"].get_xscale() == "linear"
    for axes in panels.values():
        line = axes.lines[-1]
        np.testing.assert_array_equal(line.get_xdata(), line.get_ydata())
        assert axes.get_xlim() == axes.get_ylim()
    words = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert words[3:] == ["the paper's protocol", "not the paper's protocol: not comparable"]


def test_every_point_has_its_name_and_no_name_hides_another(results, make, tmp_path, drawn):
    draw("reproduced", sources_of("reproduced", results, make), [tmp_path / "x.png"], STAMP)
    rate = next(axes for axes in drawn[0].axes if axes.get_title().startswith("Rate"))
    assert sorted(text.get_text() for text in rate.texts) == sorted(str(t) for t in range(100, 1001, 100))
    for axes in drawn[0].axes:
        assert axes.texts
        boxes = [text.get_window_extent().extents for text in axes.texts]
        for i, box in enumerate(boxes):
            assert not any(reproduced.overlap(box, other) for other in boxes[:i])


def test_a_number_is_hollow_by_its_own_mark_and_its_bar_is_over_seeds(results, make, tmp_path, drawn):
    short = {"text": "one split", "affects": ["is"]}
    run = make.as_published("eps-simple", 9.4, 0.1, 3.3) | {"deviations": [short]}
    other = make.repeat(run, 1, fid={"train": 3.5, "test": 5.5})
    draw("reproduced", tables_of(results, [results.add(run), results.add(other)]), [tmp_path / "x.png"], STAMP)
    panels = {axes.get_title(): markers_of(axes) for axes in drawn[0].axes}
    assert panels["Inception Score"][9.46, 9.4][0]
    assert panels["FID"] == {(3.17, 3.4): (False, [0.14]), (5.24, 5.4): (False, [0.14])}


def test_numbers_are_logarithmic_where_most_are_small():
    for values, scale in (([1, 5, 10], "linear"), ([0.001, 0.01, 0.02, 3], "log"), ([0, 0.001, 0.01, 3], "symlog")):
        axes = Figure().subplots()
        low, high = reproduced.scale(axes, np.array(values, float))
        assert axes.get_xscale() == axes.get_yscale() == scale
        assert low < min(values) and high > max(values)


def test_nothing_reproduced_is_said_in_words(results, make, tmp_path, drawn):
    tables = tables_of(results, [results.add(make.unstable("eps-simple"))])
    draw("reproduced", tables, [tmp_path / "x.png"], STAMP)
    assert "no number is both here and in the paper" in texts_of(drawn[0])
    assert f"Unstable at step 1,234: {make.reason}." in texts_of(drawn[0]).replace("\n", " ")


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
    assert labels[0] == "t = 0\n(image)" == labels[-1]
    assert labels[8] == "t = 50\n(noise)" == labels[9]


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
