"""Others' statistics of the real images: how far ours, and samples, are from them.

The first checks data, network and resize at once. No other result depends on any of it: what cannot be fetched or
compared is recorded with the reason, and the run goes on.
"""

from pathlib import Path
from typing import get_args

import numpy as np

from ddpm.config.errors import DamagedFile, UserError
from ddpm.config.sources import DataSet, PublishedStatistics, StatisticsName
from ddpm.evaluation.fid import Statistics, frechet_distance
from ddpm.evaluation.networks.base import CLEAN
from ddpm.evaluation.networks.inception import NAME, SHA256
from ddpm.evaluation.reference import has_covariance, kinds_of, statistics_keys
from ddpm.storage.download import NotDownloaded, fetch, verify_copy
from ddpm.storage.files import claim_card, read_json, read_npz, sha256, write_json
from ddpm.storage.shards import unpack_header
from ddpm.storage.transfer import Failure

AGAIN = "snakemake download --cores 1 --forcerun download_statistics"


def download_statistics(data: DataSet, folder: Path, log=print) -> None:
    """Try once to fetch what others published of `data`; card.json in `folder` says what became of each file.

    A file that lies in the data set's `root`, or in `folder` already, is used as it is.
    """
    claim_card(folder / "card.json", "statistics")
    found = {key: fetch_statistics(file, data.root, folder, log) for key, file in data.statistics.items()}
    write_json(folder / "card.json", {"data": data.name, "to_try_again": AGAIN, "statistics": found})


def fetch_statistics(file: PublishedStatistics, root: Path | None, folder: Path, log) -> dict:
    """What is known of `file`, where it lies now, and its hash; or why it is not there."""
    known = {"name": file.name, "url": file.urls[0]}
    known |= {"publisher": file.publisher, "images": file.images, "notes": file.notes}
    missing = {"status": "not fetched", "file": None, "sha256": None}
    there = root.absolute() / file.name if root and (root / file.name).is_file() else None
    try:
        copy = verify_copy(there, file) if there else fetch(file, folder, log, once=True)
    except NotDownloaded as error:
        reason = "; ".join(f"{url}: {failure}" for url, failure in error.failures.items())
        return {**known, **missing, "reason": reason}
    except (Failure, UserError) as error:
        reason = f"{file.name}: {error}" if there else str(error)
        return {**known, **missing, "reason": reason.replace(f"{folder}/", "")}
    return {**known, "status": "fetched", "file": str(there or file.name), "sha256": copy["sha256"], "reason": None}


def write_comparison(reference: Path, card: Path, path: Path) -> None:
    """Compare our statistics with those that others published.

    Args:
        reference: real features, from `reference.write_reference`. card: of `download_statistics`.
    """
    header = unpack_header(read_npz(reference, "header")["header"])
    comparisons = [compare_real(known, header, reference, card.parent) for known in read_card(card)]
    write_json(path, {"data": header["data"], "comparisons": comparisons})


def read_card(card: Path) -> list[dict]:
    """What is known of each of the published statistics, with its `split` and the `kind` of its features."""
    listed = read_json(card)["statistics"]
    found = []
    for key in (key for key in get_args(StatisticsName) if key in listed):
        known = listed[key]
        whose = [known["name"], known["publisher"], known["images"] and f"{known['images']:,} images"]
        split, _, which = key.partition("-")
        kind = CLEAN if which == "clean" else "features"
        found.append({**known, "split": split, "kind": kind, "source": ", ".join(filter(None, whose))})
    return found


def compare_real(known: dict, header: dict, reference: Path, folder: Path) -> dict:
    """Our statistics of the real images beside published ones, as published.json has it."""
    split, kind = known["split"], known["kind"]
    ours = header.get(split, {"images": None, "sha256": None})
    mine = None
    if has_covariance(header, split) and kind in kinds_of(header):
        mine = tuple(read_npz(reference, *statistics_keys(split, kind)).values())
    found = compare(mine, known, header, folder, f"there are {ours['images'] or 'no'} {split} images here")
    said = {key: known[key] for key in ("source", "url", "notes")}
    return {"split": split, **ours, **said, "status": "not compared" if found["reason"] else "compared", **found}


def score_by_published(card: Path, header: dict, ours: dict[str, Statistics]) -> list[dict]:
    """FID and clean-FID of samples against each of the published statistics; None where `reason` says why.

    Args:
        card: of `download_statistics`. header: of the real features. ours: of the samples, by kind of features.
    """
    scores = []
    for known in read_card(card):
        found = compare(ours.get(known["kind"]), known, header, card.parent, "the samples have no such statistics")
        score = "clean-FID" if known["kind"] == CLEAN else "FID"
        said = {key: known[key] for key in ("split", "publisher", "source", "url", "notes")}
        scores.append({"score": score, **said, "value": found["frechet_distance"], "reason": found["reason"]})
    return scores


def compare(mine: Statistics | None, known: dict, header: dict, folder: Path, missing: str) -> dict:
    """Fréchet distance to published statistics and the largest difference of a mean; None where `reason` says why.

    Args:
        header: of the real features. missing: the reason if there are none of `mine`.
    """
    distance = difference = None
    reason = why_not_comparable(known, header) or (missing if mine is None else None)
    if not reason:
        try:
            theirs = read_statistics(folder / known["file"], known["sha256"], len(mine[0]))
        except UserError as error:  # the report says it, which is passed on: no folders of this machine
            reason = str(error).replace(f"{(folder / known['file']).parent}/", "")
        else:
            distance, difference = frechet_distance(*mine, *theirs), float(np.abs(mine[0] - theirs[0]).max())
    return {"reason": reason, "frechet_distance": distance, "mean_difference": difference}


def why_not_comparable(known: dict, header: dict) -> str | None:
    """The published statistics were not fetched, or are of other features than ours, by the real ones' header."""
    if header["network_sha256"] != SHA256:
        return f"they are of the features of {NAME}, ours of those of {header['network']}"
    if known["kind"] not in kinds_of(header):
        return "our features are of an earlier version, which had none of clean-FID"
    return None if known["status"] == "fetched" else f"not fetched: {known['reason']}"


def read_statistics(path: Path, checksum: str, width: int) -> Statistics:
    """Others' mean [D] and covariance [D, D], D = `width`.

    Raises:
        UserError: the file is missing, is not what was fetched, or holds no such statistics.
    """
    remedy = f"Put another copy in its place, or move it away, and run `{AGAIN}`."
    if not path.is_file() or sha256(path) != checksum:
        raise DamagedFile(path, "is missing or no longer what was fetched", remedy)
    try:  # numbers of eight bytes, and a header
        arrays = read_npz(path, "mu", "sigma", most=10 * width * width + 4096)
    except DamagedFile as error:
        raise DamagedFile(path, error.what, remedy) from error
    mu, sigma = (array.astype(np.float64) for array in arrays.values())
    if (mu.shape, sigma.shape) != ((width,), (width, width)):
        what = f"holds statistics of shapes {mu.shape} and {sigma.shape}, not of {width} features"
        raise DamagedFile(path, what, remedy)
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise DamagedFile(path, "holds values that are no numbers", remedy)
    return mu, sigma
