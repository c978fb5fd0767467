"""The tables and figures, and what each is made from: a data set of the paper, and an experiment on it by the rest of
its name."""

TABLE2 = ("mu-vlb-learned", "mu-vlb-fixed", "mu-simple", "eps-vlb-learned", "eps-vlb-fixed", "eps-simple")
MAIN, LARGE = "eps-simple", "eps-simple-large"
CIFAR10, FACES = ("cifar10", MAIN), ("celebahq256", MAIN)
BEDROOM, CHURCH, CAT = (("lsun-bedroom256", MAIN), ("lsun-church256", MAIN), ("lsun-cat256", MAIN))
BEDROOM_LARGE = ("lsun-bedroom256", LARGE)
SCORES_TABLE = "scores"  # beyond the paper
TABLES = {
    "table1": [("cifar10", "eps-vlb-fixed"), CIFAR10],
    "table2": [("cifar10", ending) for ending in TABLE2],
    "table3": [BEDROOM, BEDROOM_LARGE, CHURCH, CAT],
    "table4": [CIFAR10],
    SCORES_TABLE: [],  # of the paper; it shows every experiment of the run
}
FIGURES = {
    "diffusion": [CIFAR10],
    "figure1": [FACES, CIFAR10],
    "figure2": [],
    "figure3": [CHURCH],
    "figure4": [BEDROOM_LARGE],
    "figure5": [CIFAR10],
    "figure6": [CIFAR10],
    "figure7": [FACES],
    "figure8": [FACES],
    "figure9": [FACES],
    "figure10": [CIFAR10],
    "figure11": [FACES],
    "figure12": [FACES],
    "figure13": [CIFAR10],
    "figure14": [CIFAR10],
    "figure15": [CIFAR10],
    "figure16": [CHURCH],
    "figure17": [BEDROOM_LARGE],
    "figure18": [BEDROOM],
    "figure19": [CAT],
    "reproduced": [],
    "training-curve": [CIFAR10],
    "fewsteps": [CIFAR10],
    "bound": [CIFAR10],
}
# The files of its experiment that a figure is drawn from. Those not listed show the first samples.
DRAWN_FROM = {
    "diffusion": ["trajectory.npz"],
    "figure5": ["rate_distortion.csv", "metrics.json"],
    "figure7": ["latents.npz"],
    "figure8": ["interpolations.npz"],
    "figure9": ["coarse-to-fine.npz"],
    "figure10": ["progressive.csv", "metrics.json"],
    "figure12": ["neighbours-crop.npz", "metrics.json"],
    "figure15": ["neighbours.npz", "metrics.json"],
    "fewsteps": ["few_steps.csv", "metrics.json"],
    "bound": ["rate_distortion.csv", "metrics.json"],
    "training-curve": ["training.csv", "metrics.json"],
}
# Figures of the first samples that also show a score.
WITH_SCORES = ("figure3", "figure4", "figure16", "figure17", "figure18", "figure19")
# The key that a table or figure needs in its experiments; without it there is nothing to show.
NEEDS = {
    "table4": "likelihood",
    "figure5": "likelihood",
    "figure6": "sampling.previews",
    "figure7": "latents",
    "figure8": "latents",
    "figure9": "latents",
    "figure10": "sampling.previews",
    "figure12": "evaluation.neighbour_crop",
    "figure14": "sampling.previews",
    "training-curve": "training",
    "fewsteps": "few_steps",
    "bound": "likelihood",
}


def is_large(experiment: str) -> bool:
    """Whether an experiment is of the larger network of Table 3, by its name."""
    return "large" in experiment.split("-")
