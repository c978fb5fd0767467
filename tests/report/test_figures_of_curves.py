"""Figures of curves and of numbers: what is drawn where, and what it is called."""

import json

import numpy as np
import pytest
import torch
from drawing import STAMP, collisions_of, sources_of, tables_of, texts_of
from matplotlib.figure import Figure
from PIL import Image
from records import read_records

from ddpm.config.errors import UserError
from ddpm.config.registry import DATASETS
from ddpm.diffusion import GaussianDiffusion, linear_betas
from ddpm.evaluation.networks.inception import NAME
from ddpm.report.figures import (
    bound,
    charts,
    draw,
    figure5,
    reproduced,
    style,
    training_curve,
)
from ddpm.report.inputs import PUBLISHED
from ddpm.storage.files import read_npz
from ddpm.storage.tables import read_curve

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


def test_bound_has_a_term_for_each_time_and_their_floor(results, make, tmp_path, drawn):
    draw("bound", sources_of("bound", results, make), [tmp_path / "x.png"], STAMP)
    decoder, terms, floor, prior = drawn[0].axes[0].lines
    assert (list(decoder.get_xdata()), list(decoder.get_ydata())) == ([1], [2.2])
    assert (list(prior.get_xdata()), list(prior.get_ydata())) == ([50], [0.025])
    curve = read_curve(results.rate_distortion(), "t", "rate")
    np.testing.assert_array_equal(terms.get_xdata(), curve["t"][1:])
    np.testing.assert_allclose(terms.get_ydata().sum(), curve["rate"].iloc[0] - curve["rate"].iloc[-1])
    assert terms.get_ydata()[-1] == curve["rate"].iloc[-2] - curve["rate"].iloc[-1]
    assert (floor.get_ydata() > 0).all()


def test_the_floor_is_the_bound_of_a_network_without_error():
    """bound_terms of a network that predicts the very noise, whose terms are the variances' alone."""
    x0 = torch.zeros(1, 1, 2, 2)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    process = {"timesteps": 50, "beta_start": 1e-4, "beta_end": 0.02, "variance": "fixedlarge"}
    diffusion = GaussianDiffusion(linear_betas(50), variance="fixedlarge")
    terms = [diffusion.bound_terms(lambda *_: noise, x0, torch.tensor([t]), noise)[0].item() for t in range(1, 50)]
    np.testing.assert_allclose(bound.floor_of(process), terms, rtol=1e-3)
    assert bound.floor_of(process | {"variance": "fixedsmall"}) is None


def test_figure5_names_our_data_where_they_are_not_the_papers(results, make, tmp_path, drawn):
    copy = make.metrics(data={"name": "cifar10", "title": "JPEG copy of CIFAR-10"})
    for run in (make.metrics(), make.as_published("eps-simple", 9.4, 0.1, 3.2), copy):
        draw("figure5", [results.rate_distortion(), results.add(run)], [tmp_path / "x.png"], STAMP)
    legends = [[text.get_text() for text in figure.legends[0].get_texts()] for figure in drawn]
    ours = ("here (Handwritten digits)", "here", "here (JPEG copy of CIFAR-10)")
    assert legends == [[data, "paper, Table 4 (CIFAR-10)"] for data in ours]


def test_figure5_marks_no_single_times_of_a_thousand():
    curve = {key: np.linspace(1, 0, 1000) for key in ("reverse_time", "rate", "distortion")}
    assert figure5.draw_panels(curve, "here").axes[0].lines[0].get_marker() in ("", "None")


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
        assert [curve.get_xdata().tolist() for curve in curves] == [[2, 5, 10]] * 4
        assert curves[0].get_ydata()[0] == first
        assert [curve.get_linestyle() for curve in curves] == ["-", "-", ":", ":"]
        assert [curve.get_color() for curve in curves[:2]] == [curve.get_color() for curve in curves[2:]]
        assert set(ancestral.get_ydata()) == {dashed} and ancestral.get_linestyle() == "--"
    labels = [text.get_text() for text in fid.get_legend().get_texts()]
    named = [f"{spacing}, η = {eta}" for spacing in ("quadratic", "uniform") for eta in (0, 1)]
    assert labels == [*named, "ancestral, all 50 steps"]  # and none that are published, as these are digits
    assert [curve.get_ydata()[0] for curve in fid.lines[:4]] == [150, 150, 160, 160]
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
    left, bottom = round(charts.LEFT * style.DPI), round(charts.BELOW * style.DPI)
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
    assert [len(axes.lines) for axes in drawn[0].axes[:2]] == [4, 4]


def on_cifar10(run: dict, **changes) -> dict:
    """`run` as one of CIFAR-10, scored by Inception."""
    run["made_from"]["process"]["timesteps"] = 1000
    changes = {"data": {"name": "cifar10", "title": DATASETS["cifar10"].title}, "network": NAME} | changes
    return run | {"data": changes["data"], "features": {"network": changes["network"]}}


def test_fewsteps_of_cifar10_are_beside_the_published_ones(results, make, tmp_path, drawn):
    table, run, shard = sources_of("fewsteps", results, make)
    run.write_text(json.dumps(on_cifar10(make.metrics())))
    draw("fewsteps", [table, run, shard], [tmp_path / "x.png"], STAMP)
    fid, score = drawn[0].axes[:2]
    hollow = [line for line in fid.lines if line.get_markerfacecolor() == "none"]
    steps = [10, 20, 50, 100, 1000]
    assert [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in hollow] == [
        (steps, [13.36, 6.84, 4.67, 4.16, 4.04]),
        (steps, [41.07, 18.36, 8.01, 5.78, 4.73]),
        ([1000], [3.17]),
    ]
    assert [line.get_color() for line in hollow[:2]] == [line.get_color() for line in fid.lines[:2]]
    assert "hollow: published" in [text.get_text() for text in fid.get_legend().get_texts()]
    assert not any(line.get_markerfacecolor() == "none" for line in score.lines)
    assert collisions_of(drawn[0]) == []
    table.write_text("\n".join(line for line in table.read_text().splitlines() if not line.startswith("1.0")) + "\n")
    draw("fewsteps", [table, run, shard], [tmp_path / "x.png"], STAMP)
    shown = [line.get_ydata()[0] for line in drawn[1].axes[0].lines if line.get_markerfacecolor() == "none"]
    assert shown == [13.36, 3.17]  # of the etas that are here


@pytest.mark.parametrize(
    "changes",
    [
        {"data": {"name": "celebahq256", "title": "CelebA-HQ"}},
        {"data": {"name": "cifar10", "title": "JPEG copy of CIFAR-10"}},
        {"network": "CIFAR-10 classifier"},
    ],
)
def test_fewsteps_that_do_not_compare_have_no_published_ones(changes, results, make, tmp_path, drawn):
    table, run, shard = sources_of("fewsteps", results, make)
    run.write_text(json.dumps(on_cifar10(make.metrics(), **changes)))
    draw("fewsteps", [table, run, shard], [tmp_path / "x.png"], STAMP)
    assert len(drawn[0].axes[0].lines) == 5


def test_fewsteps_of_one_spacing_are_drawn_as_well(results, make, tmp_path, drawn):
    """As those of before, whose file says the spacing in its header alone."""
    table, run, shard = sources_of("fewsteps", results, make)
    table.write_text("\n".join(line for line in table.read_text().splitlines() if "uniform" not in line) + "\n")
    arrays = dict(np.load(shard))
    del arrays["spacing"]
    arrays |= {key: arrays[key][:6] for key in ("eta", "steps", "evaluations")} | {"images": arrays["images"][:, :6]}
    header = json.loads(str(arrays["header"])) | {"sampling": {"spacing": "quadratic"}}
    np.savez(shard, **arrays | {"header": np.array(json.dumps(header))})
    draw("fewsteps", [table, run, shard], [tmp_path / "x.png"], STAMP)
    assert [len(axes.lines) for axes in drawn[0].axes[:2]] == [3, 3]


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
            assert not any(reproduced.meet([box], [other]) for other in boxes[:i])


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
        low, high = reproduced.set_scale(axes, np.array(values, float))
        assert axes.get_xscale() == axes.get_yscale() == scale
        assert low < min(values) and high > max(values)


def test_nothing_reproduced_is_said_in_words(results, make, tmp_path, drawn):
    tables = tables_of(results, [results.add(make.unstable("eps-simple"))])
    draw("reproduced", tables, [tmp_path / "x.png"], STAMP)
    assert "no number is both here and in the paper" in texts_of(drawn[0])
    assert f"Unstable at step 1,234: {make.reason}." in texts_of(drawn[0]).replace("\n", " ")


# Legends and names


# Inception Score, its spread, FID and bits/dim, by method.
DEMO = {
    "eps-simple": (7.46, 0.2, 30.1, 4.12),
    "eps-vlb-fixed": (6.1, 0.2, 58.0, 4.02),
    "mu-vlb-fixed": (6.3, 0.2, 55.0, 4.0),
}
PAPER = {
    "eps-simple": (9.46, 0.11, 3.17, 3.75),
    "eps-vlb-fixed": (7.67, 0.13, 13.51, 3.7),
    "mu-vlb-fixed": (8.06, 0.09, 13.22, 3.7),
}


@pytest.mark.parametrize("numbers", [DEMO, PAPER], ids=["demo", "paper"])
@pytest.mark.parametrize("name", ["figure5", "figure10", "fewsteps", "bound", "training-curve", "reproduced"])
def test_no_word_lies_on_data_or_on_another_word(name, numbers, results, make, tmp_path, drawn):
    runs = []
    for method, (score, spread, fid, bits) in numbers.items():
        run = make.as_published(method, score, spread, fid)
        run["features"]["network"] = "ResNet-10 classifier of a copy of CIFAR-10"
        run["nll"]["test"]["bits_per_dim"], run["nll"]["train"]["bits_per_dim"] = bits, bits - 0.03
        runs.append(run)
    runs[0]["made_from"]["weights"] = {"step": 3000}
    sources = [] if name == "reproduced" else sources_of(name, results, make)
    paths = [results.add(run) for run in runs]
    if name == "reproduced":
        sources = tables_of(results, paths)
    draw(name, sources, [tmp_path / "x.png"], STAMP)
    assert collisions_of(drawn[-1]) == []
    if name == "reproduced":
        names = [sum(len(axes.containers) for axes in drawn[-1].axes), sum(len(axes.texts) for axes in drawn[-1].axes)]
        assert names[0] == names[1] > 20


def test_a_word_on_a_word_or_on_a_line_is_found():
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], label="a line")
    assert collisions_of(figure) == []
    axes.legend(loc="center")
    assert "'a legend' on a line" in collisions_of(figure)
    figure.text(0.5, 0.5, "here")
    figure.text(0.51, 0.5, "there")
    assert "'here' on 'there'" in collisions_of(figure)
    figure.text(0.99, 0.2, "beyond")
    assert "'beyond' leaves the picture" in collisions_of(figure)
