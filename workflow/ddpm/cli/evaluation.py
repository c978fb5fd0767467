"""Commands of the evaluation stage."""

from pathlib import Path
from typing import Annotated

import typer

from ddpm.cli.options import (
    Config,
    DataName,
    Device,
    Devices,
    Network,
    NetworkSha256,
    Out,
    Reference,
    Shard,
    State,
    Weights,
    choose_device,
    claim_output,
    find_data,
    log,
    processes,
    section_of_shard,
)
from ddpm.config.errors import UserError
from ddpm.storage.files import read_json

app = typer.Typer()
Statistics = Annotated[Path | None, typer.Option(help="card.json of `download-statistics`.")]


def load_scorer(path: Path, device: str, sha256: str | None):
    """The network of the scores in a file, on the device of that name."""
    from ddpm.evaluation.networks import load_network

    return load_network(path, choose_device(device), sha256)


def read_settings(config: Path):
    """The keys of the evaluation in a stage's document."""
    from ddpm.storage.documents import read_section

    return read_section(config, "evaluation")


@app.command()
def classifier(
    config: Config,
    data: Annotated[Path, typer.Option(help="Folder of the prepared data set.")],
    out: Out,
    device: Device = "auto",
) -> None:
    """Train the small classifier whose features stand for Inception's."""
    from ddpm.config.base import validated
    from ddpm.config.schema import ClassifierConfig
    from ddpm.evaluation.networks.classifier import train_classifier

    train_classifier(validated(ClassifierConfig, read_json(config), str(config)), data, out, choose_device(device), log)


@app.command("download-network")
def download_network(
    out: Annotated[Path, typer.Option(help="Folder to download to; card.json in it says what is there.")],
    source: Annotated[
        Path | None, typer.Argument(help="A JSON document {urls, sha256}: sources.inception of a configuration.")
    ] = None,
    url: Annotated[list[str] | None, typer.Option(help="Another address to take it from; repeat for more.")] = None,
) -> None:
    """Download the Inception network of the paper's scores. No other command for it needs the network."""
    from ddpm.config.base import validated
    from ddpm.config.experiment import InceptionSource
    from ddpm.evaluation.networks.inception import INCEPTION, NAME
    from ddpm.storage.download import download

    asked = {**(read_json(source) if source else {}), **({"urls": url} if url else {})}
    changes = {key: value for key, value in validated(InceptionSource, asked, str(source or "--url")) if value}
    file = INCEPTION.model_copy(update=changes)
    name = NAME if file.sha256 == INCEPTION.sha256 else "a TorchScript network of your own"
    download((file,), out, {"network": name}, log)


@app.command()
def reference(
    network: Network,
    data: Annotated[Path, typer.Option(help="Folder of the prepared data set.")],
    out: Out,
    summary: Annotated[Path, typer.Option(help="reference.json: how real images score.", callback=claim_output)],
    splits: Annotated[int, typer.Option(min=1, help="Parts of the Inception Score.")] = 10,
    device: Device = "auto",
    state: State = None,
    network_sha256: NetworkSha256 = None,
) -> None:
    """Compute the features of the real images, with which samples are compared."""
    from ddpm.evaluation.reference import write_reference

    write_reference(load_scorer(network, device, network_sha256), data, splits, out, summary, state, log)


@app.command("download-statistics")
def download_statistics(
    name: DataName,
    out: Annotated[Path, typer.Option(help="Folder to download to; card.json in it says what is there, or why not.")],
) -> None:
    """Try once to download the statistics that others published of a data set. Without any, it does not fail."""
    from ddpm.evaluation import published

    published.download_statistics(find_data(name), out, log)


@app.command("compare-reference")
def compare_reference(
    reference: Annotated[Path, typer.Argument(help="Features of the real images, as `reference` writes them.")],
    statistics: Annotated[Path, typer.Option(help="card.json of `download-statistics`.")],
    out: Out,
) -> None:
    """Say how far our statistics of the real images are from others'."""
    from ddpm.evaluation.published import write_comparison

    write_comparison(reference, statistics, out)


@app.command()
def features(
    network: Network,
    samples: Annotated[Path, typer.Option(help="A shard of samples.")],
    out: Out,
    device: Devices = "auto",
    state: State = None,
    network_sha256: NetworkSha256 = None,
) -> None:
    """Compute the features and class probabilities of one shard of samples."""
    from ddpm.evaluation.features import write_features
    from ddpm.evaluation.networks import load_network

    with processes(device) as (on, group):
        write_features(load_network(network, on, network_sha256), samples, out, state, log, group)


@app.command()
def likelihood(
    config: Config,
    weights: Weights,
    data: Annotated[Path, typer.Option(help="test.npy or train.npy of the prepared data set.")],
    shard: Shard,
    out: Out,
    device: Devices = "auto",
    state: State = None,
) -> None:
    """Compute the variational bound of one shard of real images, all T terms."""
    from ddpm.data.store import Images
    from ddpm.evaluation.likelihood import Bound, likelihood_shard
    from ddpm.training.model import load_model

    images, split = Images(data), data.stem
    settings = section_of_shard(config, "likelihood", shard)
    asked = getattr(settings, split)
    count = len(images) if asked == "all" else min(asked, len(images))
    with processes(device) as (on, group):
        bound = Bound(load_model(weights, on), images, split, count, settings, on)
        likelihood_shard(bound, shard, out, log, state, group)


@app.command()
def evaluate(
    config: Config,
    features: Annotated[list[Path], typer.Argument(help="Feature shards.")],
    reference: Reference,
    card: Annotated[Path, typer.Option(help="card.json of the data set.")],
    out: Out,
    scale: Annotated[str, typer.Option(help="Name of the scale, for the record.")] = "",
    bound: Annotated[list[Path] | None, typer.Option(help="A shard of `likelihood`; repeat for each.")] = None,
    statistics: Statistics = None,
) -> None:
    """Score an experiment: metrics.json."""
    from ddpm.evaluation.metrics import write_metrics
    from ddpm.storage.documents import read_repeat

    repeat = read_repeat(config)
    write_metrics(read_settings(config), scale, features, bound or [], reference, card, out, repeat, statistics)


@app.command()
def score(
    images: Annotated[Path, typer.Argument(help="Folder of pictures or of .npz, or one .npz: uint8 [N, H, W, C].")],
    data: Annotated[str, typer.Option(help="Name of the data set that they are compared with.")],
    scale: Annotated[
        str, typer.Option(help="Scale whose network, and features of the real images, are used.")
    ] = "paper",
    reference: Annotated[Path | None, typer.Option(help="Features of the real images, instead of the scale's.")] = None,
    network: Annotated[Path | None, typer.Option(help="Network of the scores, instead of the scale's.")] = None,
    statistics: Statistics = None,
    out: Annotated[Path | None, typer.Option(help="File to write the JSON to, too.", callback=claim_output)] = None,
    device: Device = "auto",
    network_sha256: NetworkSha256 = None,
) -> None:
    """Score anybody's images like this project's own: FID, clean-FID, KID, Inception Score, precision and recall."""
    from ddpm.evaluation.foreign import score_images
    from ddpm.evaluation.networks.inception import INCEPTION
    from ddpm.storage.files import to_json, write_json

    real = Path("results", scale, "reference", data)
    classifier, published = real / "classifier.safetensors", Path("resources/statistics", data, "card.json")
    network = network or (classifier if classifier.exists() else Path("resources/inception", INCEPTION.name))
    reference = reference or real / "features.npz"
    if not reference.exists():
        made = f"`./run snakemake --cores 1 {reference} --config scale={scale}`"
        raise UserError(f"{reference}: no such file. Make it with {made}, or name another with --reference.")
    statistics = statistics or (published if published.exists() else None)
    scoring = load_scorer(network, device, network_sha256)
    found = score_images(images, scoring, reference, Path("resources", data, "card.json"), statistics)
    if out:
        write_json(out, found)
    typer.echo(to_json(found, indent=2))


@app.command("rate-distortion")
def rate_distortion(
    shards: Annotated[list[Path], typer.Argument(help="Bound shards of the test set.")], out: Out
) -> None:
    """Compute the rate-distortion curve of Figure 5 and Table 4."""
    from ddpm.evaluation.curves import write_rate_distortion

    write_rate_distortion(shards, out)


@app.command()
def progressive(
    config: Config,
    features: Annotated[list[Path], typer.Argument(help="Feature shards with previews.")],
    reference: Reference,
    out: Out,
) -> None:
    """Score x0-hat over the reverse process: the curves of Figure 10."""
    from ddpm.evaluation.curves import write_progressive

    write_progressive(read_settings(config), features, reference, out)


@app.command("few-steps-scores", help="Score few-step samples, a row for each eta and number of steps.")
@app.command("snapshot-scores", help="Score samples of a training's snapshots, a row for each step.")
def curve_scores(
    context: typer.Context,
    config: Config,
    network: Network,
    samples: Annotated[list[Path], typer.Argument(help="Shards of `few-steps`, or of `snapshot`.")],
    reference: Reference,
    out: Out,
    device: Device = "auto",
    network_sha256: NetworkSha256 = None,
) -> None:
    from ddpm.evaluation.curves import write_few_steps, write_snapshot_scores

    write = write_few_steps if context.info_name == "few-steps-scores" else write_snapshot_scores
    write(read_settings(config), load_scorer(network, device, network_sha256), samples, reference, out)


@app.command()
def neighbours(
    config: Config,
    samples: Annotated[Path, typer.Option(help="The first shard of samples.")],
    features: Annotated[Path, typer.Option(help="The first shard of features.")],
    data: Annotated[Path, typer.Option(help="train.npy of the prepared data set.")],
    reference: Reference,
    out: Out,
    network: Annotated[
        Path | None, typer.Option(help="Network of the scores, if the reference lacks what is compared.")
    ] = None,
    crop: Annotated[bool, typer.Option(help="Compare only the box evaluation.neighbour_crop: Figure 12.")] = False,
    device: Device = "auto",
    network_sha256: NetworkSha256 = None,
) -> None:
    """Find the nearest training images of the first samples: Figures 12 and 15."""
    from ddpm.evaluation.neighbours import write_neighbours

    def load():
        return load_scorer(network, device, network_sha256)

    settings = read_settings(config)
    write_neighbours(settings, samples, features, data, reference, out, load if network else None, crop)
