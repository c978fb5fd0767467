"""Which weights of a training are scored: the last ones, or those of the snapshot with the lowest FID."""

from pathlib import Path

from ddpm.config.enums import Selection
from ddpm.config.errors import DamagedFile, UserError
from ddpm.storage.files import atomic_write
from ddpm.storage.weights_file import check_seal, read_header, snapshot_file, with_header


def select_weights(
    final: Path, selection: Selection, path: Path, snapshots: Path | None = None, scores: Path | None = None
) -> None:
    """Write the chosen weights as `path`; their header's outcome says which they are, and of how many.

    The paper scores the weights of the lowest FID over the course of training (Appendix B). A training that left its
    range has no such choice: its last weights, which say so, are passed on.

    Args:
        final: the weights after the last step. snapshots: the folder of the others.
        scores: snapshots.csv, with the FID against the training set of each; for lowest-fid.

    Raises:
        UserError: scores or snapshots are missing.
    """
    content, header = read_weights(final)
    if header["outcome"]["status"] != "unstable":
        chosen = {"checkpoint": selection.value}
        if selection is Selection.LOWEST_FID:
            if snapshots is None or scores is None:
                raise UserError("the lowest FID is chosen among snapshots: give --snapshots and --scores.")
            from ddpm.storage.tables import read_curve, read_table  # and with it pandas

            curve = read_curve(scores, "step", "images", "fid_train")
            if curve.empty:
                raise DamagedFile(scores, "holds no snapshot to choose from", "Choose `checkpoint: final` instead.")
            best = int(curve["fid_train"].argmin())
            content, header = read_weights(snapshot_file(snapshots, int(curve["step"][best])))
            chosen |= {"snapshots": len(curve["step"]), "snapshot_images": int(curve["images"][best])}
            if "evaluations" in read_table(scores):  # earlier versions did not say it
                chosen["snapshot_evaluations"] = int(read_curve(scores, "evaluations")["evaluations"][best])
        content = with_header(content, {**header, "outcome": {**header["outcome"], **chosen}})
    with atomic_write(path) as part:
        part.write_bytes(content)


def read_weights(path: Path) -> tuple[bytes, dict]:
    """The bytes of a weights file, and its header."""
    if not path.exists():
        raise UserError(f"{path}: no such file. Train the experiment first.")
    if (header := read_header(path)) is None:
        raise DamagedFile(path, "not a file of this project's weights")
    content = path.read_bytes()
    try:
        check_seal(content)
    except ValueError as error:
        raise DamagedFile(path, str(error)) from error
    return content, header
