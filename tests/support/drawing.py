"""What figures are drawn from in tests, and the words in them."""

from matplotlib.figure import Figure

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
