"""Figures of images: layout to the pixel."""

import io
import json

import numpy as np
import pytest
import torch
from drawing import STAMP, sources_of, texts_of
from PIL import Image

from ddpm.config.errors import DamagedFile
from ddpm.report.figures import (
    diffusion,
    draw,
    figure1,
    grids,
    style,
)
from ddpm.report.figures.samples import read_samples, shrink
from ddpm.storage.files import read_npz, write_npz

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
    from torchvision.utils import make_grid

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
    grid = grids.draw_square(few, 16).axes[0].images[0].get_array()
    assert grid.shape[:2] == style.make_grid(few[:25].reshape(5, 5, 8, 8, 1), 32, 10).shape[:2]


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


@pytest.mark.parametrize("name", grids.SIDES)
def test_large_images_make_no_enormous_file(name, tmp_path):
    """Photographs of 256x256 pixels take some 2.2 bytes a pixel as PNG: 3.6 million of them are 8 MB."""
    images = np.zeros((256, 256, 256, 3), np.uint8)
    figure = grids.draw_square(images, grids.SIDES[name])
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


def test_figure1_shows_one_experiment_twice_where_it_stands_for_both(results, tmp_path, drawn):
    draw("figure1", results.shards(2, 100), [tmp_path / "x.png"], STAMP)
    pictures = drawn[0].axes[0].images
    assert len(pictures) == 4**2 + 8**2
    assert pictures[16].get_extent()[0] > figure1.PANEL


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
    np.testing.assert_array_equal(above.get_array()[:128, :128], shrink(pixel[0, 0], 2))


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
