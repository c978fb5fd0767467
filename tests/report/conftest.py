"""Synthetic results of the earlier stages: real digits, noised by hand, in the files of the contract."""

from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from ddpm.config.catalogue import TABLES
from ddpm.report import page
from ddpm.report.figures import NAMES, style
from ddpm.report.tables import make_table
from ddpm.storage.files import write_json, write_npz, write_text
from ddpm.storage.shards import pack_header

CAPTIONS = Path(page.__file__).parents[2] / "report"
T, KEPT = 50, 10
METHODS = {
    "eps-simple": ("eps", "simple", "fixedlarge"),
    "eps-vlb-fixed": ("eps", "vlb", "fixedlarge"),
    "eps-vlb-learned": ("eps", "vlb", "learned"),
    "mu-simple": ("mu", "simple", "fixedlarge"),
    "mu-vlb-fixed": ("mu", "vlb", "fixedlarge"),
    "mu-vlb-learned": ("mu", "vlb", "learned"),
}
EVERY = ["is", "fid_train", "fid_test", "nll_test", "nll_train"]
DEVIATIONS = [
    {"text": "data: Handwritten digits, 8x8, not CIFAR-10", "affects": EVERY},
    {"text": "300 sample images, not 50,000", "affects": EVERY[:3]},
    {"text": "digits classifier instead of Inception", "affects": EVERY[:3]},
    {"text": "bits/dim of 60 of the 1,437 train images", "affects": EVERY[4:]},
]
REASON = "the loss is not finite"
UNSTABLE = {"status": "unstable", "step": 17, "reason": REASON}


def real_images(count: int, size: int = 8, channels: int = 1) -> np.ndarray:
    """[count, size, size, channels] uint8 digits."""
    digits = (load_digits().images * 255 / 16).round().astype(np.uint8)[:count, :, :, None]
    return digits.repeat(size // 8, 1).repeat(size // 8, 2).repeat(channels, 3)


def noised(images: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """A mix of images and noise; share 0 is the image, 1 is noise."""
    noise = np.random.default_rng(seed).normal(128, 70, images.shape)
    return np.clip((1 - share) * images + share * noise, 0, 255).astype(np.uint8)


PROCESS = {"timesteps": T, "beta_start": 1e-4, "beta_end": 0.02}


def metrics(method: str = "eps-simple", **changes) -> dict:
    parameterization, objective, variance = METHODS[method]
    return {
        "experiment": f"digits-{method}",
        "scale": "demo",
        "data": {"name": "digits", "title": "Handwritten digits"},
        "method": {"parameterization": parameterization, "objective": objective, "variance": variance},
        "status": "measured",
        "step": None,
        "reason": None,
        "inception_score": {"mean": 7.21, "std": 0.24, "splits": 10},
        "fid": {"train": 12.345, "test": 14.5},
        "fid_spread": {"train": certainty(12.345), "test": certainty(14.5)},
        "kid": {"mean": 0.00512, "std": 0.0007, "subsets": 100, "subset_size": 250},
        "precision_recall": {"precision": 0.6875, "recall": 0.5, "neighbours": 3, "images": 300},
        "nll": {
            split: {"bits_per_dim": bits, "standard_error": 0.01, "images": 360, "prior": 0.025, "rate": 1.9,
                    "distortion_bits": 2.2, "distortion_rmse": 1.1}
            for split, bits in (("test", 4.125), ("train", 4.0))
        },
        "features": {"network": "digits classifier", "sha256": "0" * 64},
        "deviations": [dict(deviation) for deviation in DEVIATIONS],
        "repeat": None,
        "made_from": {"images": 300, "device": "a test machine", "process": {**PROCESS, "variance": variance},
                      "versions": {"torch": "2.15.0", "numpy": "2.4.6"}},
    } | changes  # fmt: skip


def certainty(fid: float, std: float = 0.02, note: str | None = None) -> dict:
    """One entry of fid_spread."""
    infinity = None if note else fid - 1
    return {
        "std": std,
        "interval": [fid - 2 * std, fid + 2 * std],
        "replicates": 200,
        "infinity": infinity,
        "note": note,
    }


NOTHING = dict.fromkeys(("inception_score", "fid", "fid_spread", "kid", "precision_recall", "nll"))


def unstable(method: str) -> dict:
    return metrics(method, status="unstable", step=1234, reason=REASON, **NOTHING)


def repeat(run: dict, seed: int, varies: str = "training", **changes) -> dict:
    """`run` again with another seed, and other numbers."""
    name = f"{run['experiment']}-{varies}-{seed}"
    return run | {"experiment": name, "repeat": {"of": run["experiment"], "varies": varies, "seed": seed}} | changes


def bits(test: float, train: float, error: float = 0.005) -> dict:
    """The likelihood's part of a metrics.json."""
    return {
        split: {"bits_per_dim": value, "standard_error": error, "images": 10_000}
        for split, value in (("test", test), ("train", train))
    }


def as_published(method: str, score: float, spread: float, fid: float) -> dict:
    """Metrics of the paper's protocol with nothing to excuse."""
    return metrics(
        method,
        data={"name": "cifar10", "title": "CIFAR-10"},
        inception_score={"mean": score, "std": spread, "splits": 10},
        fid={"train": fid, "test": fid + 2},
        fid_spread={"train": certainty(fid), "test": certainty(fid + 2)},
        features={"network": "Inception", "sha256": "0" * 64},
        deviations=[],
    )


def record(sampler: str, status: dict | None, **more) -> dict[str, np.ndarray]:
    """What every shard of samples says of itself."""
    status = status or {"status": "sampled", "step": None, "reason": None}
    return {"status": pack_header(status), "header": pack_header({"sampler": sampler, **more})}


@dataclass
class Results:
    """A results/{scale} folder in the making, and where its parts lie."""

    root: Path
    size: int = 8
    channels: int = 1
    metrics: list[Path] = field(default_factory=list)

    def add(self, run: dict) -> Path:
        path = self.root / run["experiment"] / "metrics.json"
        write_json(path, run)
        self.metrics.append(path)
        return path

    def shards(
        self, count: int = 3, each: int = 100, kept: int = KEPT, status: dict | None = None,
        experiment: str = "digits-eps-simple",
    ) -> list[Path]:  # fmt: skip
        paths = []
        images = real_images(count * each, self.size, self.channels)
        for i in range(count):
            own = images[i * each : (i + 1) * each]
            shares = [k / max(kept - 1, 1) for k in range(kept)]
            previews = [noised(own, share, seed=i) for share in shares]
            path = self.root / experiment / "samples" / f"{i}-of-{count}.npz"
            write_npz(
                path,
                images=own,
                previews=np.stack(previews, 1) if kept else np.zeros((len(own), 0, *own.shape[1:]), np.uint8),
                preview_times=np.arange(kept, dtype=np.int64) * (T // kept if kept else 0),
                **record("ancestral, all T steps", status),
            )
            paths.append(path)
        return paths

    def no_samples(self, experiment: str = "digits-eps-simple") -> list[Path]:
        return self.shards(1, 0, status=UNSTABLE, experiment=experiment)

    def few_steps(self, count: int = 100, part: int = 1) -> list[Path]:
        """few_steps.csv and a shard of few-step samples: quadratic and uniform, eta 0 and 1, in 2, 5 and 10 steps.

        None are unstable ones.
        """
        settings = list(product(("quadratic", "uniform"), (0.0, 1.0), (2, 5, 10)))
        lines = ["eta,steps,evaluations,spacing,images,inception_score,inception_score_std,fid_train,fid_test"]
        for spacing, eta, steps in settings if count else []:
            fid = 50 + (200 if spacing == "quadratic" else 220) / steps
            lines.append(f"{eta},{steps},{steps},{spacing},{count},{7 - 3 / steps},0.3,{fid},60")
        folder = self.root / "digits-eps-simple"
        write_text(folder / "few_steps.csv", "\n".join(lines) + "\n")
        own = real_images(count, self.size, self.channels)
        images = [noised(own, (1 + eta) / steps) for _, eta, steps in settings]
        spacing, eta, steps = map(np.array, zip(*settings, strict=True))
        path = folder / "few_steps" / f"{part}-of-2.npz"
        write_npz(
            path,
            images=np.stack(images, 1),
            start=np.array(0),
            spacing=spacing,
            eta=eta,
            steps=steps,
            evaluations=steps,
            **record("DDIM, few steps", None if count else UNSTABLE, sampling={"spacing": ["quadratic", "uniform"]}),
        )
        return [folder / "few_steps.csv", path]

    def rate_distortion(self, total: int = T, experiment: str = "digits-eps-simple", empty: bool = False) -> Path:
        lines = ["t,reverse_time,rate,distortion,distortion_mean"]
        for t in range(1, 1 if empty else total + 1):
            share = t / total
            lines.append(f"{t},{total - t + 1},{1.9 * (1 - share) ** 6:.6f},{70 * share:.5f},{69 * share:.5f}")
        path = self.root / experiment / "rate_distortion.csv"
        write_text(path, "\n".join(lines) + "\n")
        return path

    def progressive(self) -> Path:
        lines = ["t,reverse_steps,inception_score,inception_score_std,fid_train,fid_test"]
        for t in range(1, T + 1, T // KEPT):
            quality = 1 - t / T
            lines.append(f"{t},{T - t},{1 + 6 * quality},{0.3 * quality},{300 * (1 - quality)},{310 * (1 - quality)}")
        path = self.root / "digits-eps-simple" / "progressive.csv"
        write_text(path, "\n".join(lines) + "\n")
        return path

    def neighbours(self, rows: int = 5, k: int = 9, crop: tuple[int, ...] = ()) -> Path:
        images = real_images(rows * (2 * k + 1), self.size, self.channels)
        pixel, feature = (
            images[rows + part * rows * k :][: rows * k].reshape(rows, k, *images.shape[1:]) for part in (0, 1)
        )
        path = self.root / "digits-eps-simple" / f"neighbours{'-crop' if crop else ''}.npz"
        where = {"crop": np.array(crop)} if crop else {}
        write_npz(path, samples=images[:rows], pixel=pixel, feature=feature, **where)
        return path

    def latents(self, chains: int = 2) -> Path:
        """Continuations of chains; none are those of an unstable run."""
        images = real_images(chains * 12, self.size, self.channels)
        images = images.reshape(chains, 4, 3, self.size, self.size, self.channels)
        shared = [noised(images[:, j, 0], share, seed=j) for j, share in enumerate((1, 0.9, 0.6, 0.3))]
        path = self.root / "digits-eps-simple" / "latents.npz"
        write_npz(
            path,
            times=np.array([1000, 750, 500, 250]),
            latents=np.stack(shared, 1),
            images=images,
            **record("shared latents, of a test", None if chains else UNSTABLE),
        )
        return path

    def interpolation(self, pairs: int = 2, steps: tuple[int, ...] = (500,), timesteps: int = 1000) -> Path:
        """Pixels mixed and noised at each lambda; no pairs are those of an unstable run."""
        own = real_images(2 * pairs, self.size, self.channels)
        sources = own.reshape(pairs, 2, *own.shape[1:])
        lambdas = np.arange(11) / 10
        mixed = [(1 - share) * sources[:, 0] + share * sources[:, 1] for share in lambdas]
        rows = [np.stack([noised(image, 0.1, seed=i) for image in mixed], 1) for i in range(len(steps))]
        path = self.root / "digits-eps-simple" / "interpolation.npz"
        write_npz(
            path,
            steps=np.array(steps),
            timesteps=np.array(timesteps),
            lambdas=lambdas,
            sources=sources,
            images=np.stack(rows, 1),
            **record("interpolation, of a test", None if pairs else UNSTABLE),
        )
        return path

    def history(self, count: int = 60) -> Path:
        """training.csv: a loss that falls like a power of the step, with every seventh value far off."""
        path = self.root / "digits-eps-simple" / "training.csv"
        rows = [(50 * i, (50 * i) ** -0.5 * (5 if i % 7 == 0 else 1)) for i in range(1, count + 1)]
        lines = ["step,loss,gradient_norm,learning_rate", *(f"{step},{loss},1.0,0.001" for step, loss in rows)]
        write_text(path, "\n".join(lines) + "\n")
        return path

    def snapshots(self, count: int = 12, each: int = 4) -> list[Path]:
        """snapshots.csv and snapshots.npz: less and less noise, and always less of it in the averaged weights."""
        own, steps = real_images(each, self.size, self.channels), np.arange(1, count + 1) * 250
        lines = ["step,images,inception_score,inception_score_std,fid_train,fid_test"]
        lines += [f"{step},1000,5.0,0.1,{3 + 300 / i},{4 + 300 / i}" for i, step in enumerate(steps, 1)]
        folder = self.root / "digits-eps-simple"
        write_text(folder / "snapshots.csv", "\n".join(lines) + "\n")
        ema, raw = (
            np.stack([noised(own, part / (i + 1), seed=i) for i in range(count)]) for part in (0.5, 1.0)
        )  # fmt: skip
        write_npz(folder / "snapshots.npz", steps=steps, ema=ema, raw=raw)
        return [folder / "snapshots.csv", folder / "snapshots.npz"]

    def trajectory(self, m: int = 8, points: int = 26) -> Path:
        images = real_images(2 * m, self.size, self.channels) if m else real_images(1, self.size)[:0]
        times = np.linspace(T, 0, points).round().astype(np.int64)
        chains = [
            np.stack([noised(own, time / T, seed=int(time) + 99 * i) for time in times], 1)
            for i, own in enumerate((images[:m], images[m:]))
        ]
        path = self.root / "digits-eps-simple" / "trajectory.npz"
        write_npz(path, times=times, q=chains[0], p=chains[1], x0=chains[1][:, ::-1])
        return path

    def benchmark(self, stage: str, name: str, seconds: float, memory: str = "NA") -> Path:
        path = self.root / "benchmarks" / stage / f"{name}.tsv"
        write_text(path, f"s\th:m:s\tmax_rss\n{seconds}\t0:00:00\t{memory}\n")
        return path

    def reference(self) -> Path:
        path = self.root / "reference" / "digits" / "reference.json"
        score = {"mean": 8.9, "std": 0.2}
        count = {"images": 360, "sha256": "0" * 64}
        write_json(
            path,
            {
                "data": "digits",
                "features": {"network": "digits classifier"},
                "accuracy": 0.975,
                "train": count,
                "test": count,
                "inception_score": {"test": score, "train": score},
            },
        )
        return path

    def published(self, **changes) -> Path:
        path = self.root / "reference" / "digits" / "published.json"
        train = {"split": "train", "images": 360, "sha256": "0" * 64, "source": "theirs_train_8.npz",
                 "url": "http://x", "status": "compared", "reason": None, "frechet_distance": 0.00021,
                 "mean_difference": 1e-5}  # fmt: skip
        missed = {"status": "not compared", "reason": "no answer", "frechet_distance": None, "mean_difference": None}
        test = train | missed | {"split": "test", "source": "theirs_test_8.npz"}
        write_json(path, {"data": "digits", "comparisons": [train, test]} | changes)
        return path

    def card(self) -> Path:
        path = self.root / "resources" / "digits" / "card.json"
        write_json(
            path,
            {
                "name": "digits",
                "title": "Handwritten digits",
                "source": "scikit-learn",
                "licence": "BSD",
                "citation": "Alpaydin & Kaynak <1998>",
                "checksum": "abc",
                "image_size": 8,
                "channels": 1,
                "train": 1437,
                "test": 360,
            },
        )
        return path

    def configs(self, experiment: str = "digits-eps-simple") -> list[Path]:
        documents = {
            "training": {"name": experiment, "training": {"steps": 4321}, "diffusion": {"timesteps": T}},
            "sampling": {"name": experiment, "sampling": {"images": 300, "shards": 3}},
            "evaluation": {"name": experiment, "evaluation": {"splits": 10}},
        }
        paths = []
        for stage, document in documents.items():
            paths.append(self.root / experiment / "config" / f"{stage}.json")
            write_json(paths[-1], document)
        return paths


@pytest.fixture
def results(tmp_path) -> Results:
    return Results(tmp_path / "results" / "demo")


@pytest.fixture
def colour_results(tmp_path) -> Results:
    return Results(tmp_path / "results" / "demo", size=32, channels=3)


@pytest.fixture
def make():
    """The makers of metrics, for tests that cannot import this file by name."""
    from types import SimpleNamespace

    return SimpleNamespace(
        metrics=metrics, unstable=unstable, as_published=as_published, repeat=repeat, certainty=certainty, bits=bits,
        methods=METHODS, every=EVERY, deviations=[each["text"] for each in DEVIATIONS], nothing=NOTHING, reason=REASON,
    )  # fmt: skip


def page_builder(results: Results, out: Path, size: tuple[int, int] = (8, 8)):
    """A function that writes a page of everything, with changed arguments, and gives its text."""
    for k, method in enumerate(METHODS):
        run = metrics(method, fid={"train": 10.0 + k, "test": 12.0 + k})
        results.add(unstable(method) if method == "eps-vlb-learned" else run)
    trained = list(results.metrics)
    results.add(metrics() | {"experiment": "digits-eps-simple-untrained", "fid": {"train": 250.0, "test": 260.0}})
    curve = results.rate_distortion()
    figures = [results.root / "figures" / f"{name}.png" for name in NAMES]
    figures.append(results.root / "figures" / "diffusion.gif")
    for path in figures:  # what they show is tested elsewhere
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size).save(path)
    tables = []
    for name in TABLES:
        paths = [results.root / "tables" / f"{name}.{suffix}" for suffix in ("csv", "md", "tex", "html")]
        shown = {"table3": [], "scores": results.metrics}.get(name, trained)
        make_table(name, shown, [curve], *paths)
        tables.append(paths[0])
    benchmarks = [
        results.benchmark("training", "digits-eps-simple", 61.0, "512.5"),
        results.benchmark("training", "digits-mu-simple", 20.0),
        results.benchmark("data", "digits", 0.4),
    ]
    trajectory = results.trajectory()

    def build(**changes) -> str:
        arguments = {
            "scale": "demo", "description": "the whole chain on a laptop", "experiments": results.metrics,
            "references": [results.reference()], "published": [], "cards": [results.card()],
            "configs": results.configs(), "tables": tables, "figures": figures, "captions": CAPTIONS,
            "benchmarks": benchmarks, "trajectory": trajectory,
        } | changes  # fmt: skip
        page.write_page(out, **arguments)
        return out.read_text(encoding="utf-8")

    return build


@pytest.fixture
def write(results, tmp_path):
    """Write a page of everything, with changed arguments; give its text."""
    return page_builder(results, tmp_path / "report.html")


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A page of everything, whose figures are as large as real ones."""
    folder = tmp_path_factory.mktemp("page")
    page_builder(Results(folder / "results" / "demo"), folder / "report.html", (1600, 600))()
    return folder / "report.html"


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved, kept for looking into."""
    kept, save = [], style.save
    monkeypatch.setattr(
        style, "save", lambda figure, outputs, stamp: (kept.append(figure), save(figure, outputs, stamp))
    )
    return kept
