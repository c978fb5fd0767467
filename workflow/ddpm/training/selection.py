"""Which weights of a training are scored: the last ones, or those of the snapshot with the lowest FID."""

from pathlib import Path

from ddpm.config import Selection
from ddpm.files import DamagedFile, UserError
from ddpm.report.inputs import read_curve
from ddpm.training.state import save_weights, snapshot_file, unpack


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
    tensors, header = unpack(final.read_bytes(), final)
    if header["outcome"]["status"] == "unstable":
        return save_weights(path, tensors, header)
    chosen = {"checkpoint": selection.value}
    if selection is Selection.LOWEST_FID:
        if snapshots is None or scores is None:
            raise UserError("the lowest FID is chosen among snapshots: give --snapshots and --scores.")
        curve = read_curve(scores, "step", "images", "fid_train")
        if not len(curve["step"]):
            raise DamagedFile(scores, "holds no snapshot to choose from", "Choose `checkpoint: final` instead.")
        best = int(curve["fid_train"].argmin())
        file = snapshot_file(snapshots, int(curve["step"][best]))
        if not file.exists():
            raise UserError(f"{file}: no such file. Train the experiment first.")
        tensors, header = unpack(file.read_bytes(), file)
        chosen |= {"snapshots": len(curve["step"]), "snapshot_images": int(curve["images"][best])}
    return save_weights(path, tensors, {**header, "outcome": {**header["outcome"], **chosen}})
