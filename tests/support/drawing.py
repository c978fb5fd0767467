"""What figures are drawn from in tests, and the words in them."""

from itertools import combinations, pairwise

import numpy as np
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text

from ddpm.report.tables import make_table

STAMP = "digits, scale demo"


def sources_of(name, results, make, empty=False):
    """The inputs of a figure; `empty` ones are those of an unstable run."""
    run = results.add(make.unstable("eps-simple") if empty else make.metrics())
    match name:
        case "figure1":
            right = results.no_samples() if empty else results.shards()
            return [*results.shards(1, 20, experiment="faces-eps-simple"), *right]
        case "figure2":
            return []
        case "figure5" | "bound":
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


def collisions_of(figure: Figure) -> list[str]:
    """What lies on what: words on other words, on marks or on lines; and words that reach out of the picture."""
    figure.draw_without_rendering()
    words = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    labels = {id(label) for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in unseen_ticks(axis)}
    boxes = [(text.get_text(), Text.get_window_extent(text)) for text in words if id(text) not in labels]
    found = [f"{one!r} on {other!r}" for (one, a), (other, b) in combinations(boxes, 2) if covers(a, b)]
    found += [f"{name!r} leaves the picture" for name, box in boxes if not inside(box, figure.bbox)]
    legends = [legend.get_window_extent() for legend in figure.findobj(Legend)]
    for axes in figure.axes:
        for line in axes.lines:
            points = line.get_transform().transform(line.get_xydata())
            points = points[np.isfinite(points).all(1)]
            drawn = np.concatenate([*(np.linspace(a, b, 200) for a, b in pairwise(points)), points])
            low, high = axes.bbox.get_points()
            drawn = drawn[((drawn >= low - 1) & (drawn <= high + 1)).all(1)]
            for name, box in (*boxes, *(("a legend", legend) for legend in legends)):
                if box.padded(-0.5).count_contains(drawn):
                    found.append(f"{name!r} on a line")
    return found


def unseen_ticks(axis) -> list[Text]:
    """The labels of ticks beyond the ends of an axis, which are not drawn."""
    low, high = sorted(axis.get_view_interval())
    return [
        label
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        for label in (tick.label1, tick.label2)
        if not low <= tick.get_loc() <= high or axis.axes.axison is False
    ]


def covers(a, b) -> bool:
    return a.x0 < b.x1 - 0.5 and b.x0 < a.x1 - 0.5 and a.y0 < b.y1 - 0.5 and b.y0 < a.y1 - 0.5


def inside(box, whole) -> bool:
    return box.x0 >= whole.x0 and box.y0 >= whole.y0 and box.x1 <= whole.x1 and box.y1 <= whole.y1
