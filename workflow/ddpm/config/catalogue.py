"""The tables and figures, and what each is made from: a data set of the paper, and an experiment on it by the rest of
its name."""

from typing import NamedTuple

TABLE2 = ("mu-vlb-learned", "mu-vlb-fixed", "mu-simple", "eps-vlb-learned", "eps-vlb-fixed", "eps-simple")
MAIN, LARGE = "eps-simple", "eps-simple-large"
CIFAR10, FACES = ("cifar10", MAIN), ("celebahq256", MAIN)
BEDROOM, CHURCH, CAT = (("lsun-bedroom256", MAIN), ("lsun-church256", MAIN), ("lsun-cat256", MAIN))
BEDROOM_LARGE = ("lsun-bedroom256", LARGE)
SAMPLES, SCORED = "samples", "metrics.json"
SCORES_TABLE = "scores"  # beyond the paper


class Entry(NamedTuple):
    """What a table or figure is made from."""

    experiments: list[tuple[str, str]]
    files: tuple[str, ...] = (SAMPLES,)
    """Of each of its experiments, for a figure: SAMPLES are the shards of the first samples."""
    needs: str = "name"
    """The key that its experiments must have; without it there is nothing to show."""


TABLES = {
    "table1": Entry([("cifar10", "eps-vlb-fixed"), CIFAR10]),
    "table2": Entry([("cifar10", ending) for ending in TABLE2]),
    "table3": Entry([BEDROOM, BEDROOM_LARGE, CHURCH, CAT]),
    "table4": Entry([CIFAR10], needs="likelihood"),
    SCORES_TABLE: Entry([]),  # of the paper; it shows every experiment of the run
}
FIGURES = {
    "diffusion": Entry([CIFAR10], ("trajectory.npz",)),
    "figure1": Entry([FACES, CIFAR10]),
    "figure2": Entry([]),
    "figure3": Entry([CHURCH], (SAMPLES, SCORED)),
    "figure4": Entry([BEDROOM_LARGE], (SAMPLES, SCORED)),
    "figure5": Entry([CIFAR10], ("rate_distortion.csv", SCORED), "likelihood"),
    "figure6": Entry([CIFAR10], needs="sampling.previews"),
    "figure7": Entry([FACES], ("latents.npz",), "latents"),
    "figure8": Entry([FACES], ("interpolations.npz",), "latents"),
    "figure9": Entry([FACES], ("coarse-to-fine.npz",), "latents"),
    "figure10": Entry([CIFAR10], ("progressive.csv", SCORED), "sampling.previews"),
    "figure11": Entry([FACES]),
    "figure12": Entry([FACES], ("neighbours-crop.npz", SCORED), "evaluation.neighbour_crop"),
    "figure13": Entry([CIFAR10]),
    "figure14": Entry([CIFAR10], needs="sampling.previews"),
    "figure15": Entry([CIFAR10], ("neighbours.npz", SCORED)),
    "figure16": Entry([CHURCH], (SAMPLES, SCORED)),
    "figure17": Entry([BEDROOM_LARGE], (SAMPLES, SCORED)),
    "figure18": Entry([BEDROOM], (SAMPLES, SCORED)),
    "figure19": Entry([CAT], (SAMPLES, SCORED)),
    "reproduced": Entry([]),
    "training-curve": Entry([CIFAR10], ("training.csv", SCORED), "training"),
    "fewsteps": Entry([CIFAR10], ("few_steps.csv", SCORED), "few_steps"),
    "bound": Entry([CIFAR10], ("rate_distortion.csv", SCORED), "likelihood"),
}


def is_large(experiment: str) -> bool:
    """Whether an experiment is of the larger network of Table 3, by its name."""
    return "large" in experiment.split("-")
