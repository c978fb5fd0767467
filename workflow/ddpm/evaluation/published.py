"""Others' statistics of the real images, and how far ours are from them: this checks data, network and resize at once.

No other result depends on it. What cannot be fetched or compared is recorded with the reason, and the run goes on.
"""

from pathlib import Path

import numpy as np

from ddpm.config.errors import DamagedFile, UserError
from ddpm.config.sources import DataSet, PublishedStatistics
from ddpm.evaluation.fid import frechet_distance
from ddpm.evaluation.networks.inception import NAME, SHA256
from ddpm.evaluation.reference import SPLITS
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
    found = {split: fetch_statistics(file, data.root, folder, log) for split, file in data.statistics.items()}
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
    listed = read_json(card)["statistics"]
    comparisons = [
        compare_split(split, listed[split], header, reference, card.parent) for split in SPLITS if split in listed
    ]
    write_json(path, {"data": header["data"], "comparisons": comparisons})


def compare_split(split: str, known: dict, header: dict, reference: Path, folder: Path) -> dict:
    """Fréchet distance between both and the largest difference of a mean; both None where `reason` says why."""
    whose = [known["name"], known["publisher"], known["images"] and f"{known['images']:,} images"]
    ours = header.get(split, {"images": None, "sha256": None})
    comparison = {
        "split": split,
        "images": ours["images"],
        "sha256": ours["sha256"],
        "source": ", ".join(filter(None, whose)),
        "url": known["url"],
        "notes": known["notes"],
    }
    distance = difference = None
    if not (reason := why_not_comparable(split, known, header)):
        mu, sigma = read_npz(reference, f"{split}_mu", f"{split}_sigma").values()
        try:
            their_mu, their_sigma = read_statistics(folder / known["file"], known["sha256"], len(mu))
        except UserError as error:  # the report says it, which is passed on: no folders of this machine
            reason = str(error).replace(f"{(folder / known['file']).parent}/", "")
        else:
            distance = frechet_distance(mu, sigma, their_mu, their_sigma)
            difference = float(np.abs(mu - their_mu).max())
    status = "not compared" if reason else "compared"
    found = {"status": status, "reason": reason, "frechet_distance": distance, "mean_difference": difference}
    return comparison | found


def why_not_comparable(split: str, known: dict, header: dict) -> str | None:
    if header["network_sha256"] != SHA256:
        return f"they are of the features of {NAME}, ours of those of {header['network']}"
    if split not in header:
        return f"there are no {split} images here"
    return None if known["status"] == "fetched" else f"not fetched: {known['reason']}"


def read_statistics(path: Path, checksum: str, width: int) -> tuple[np.ndarray, np.ndarray]:
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
