"""Watch it happen: all frames of a trajectory in one picture for each process, over which the page's slider moves."""

import base64
import io
from math import isqrt
from pathlib import Path

import numpy as np
from PIL import Image

from ddpm.report.figures.samples import shrink
from ddpm.storage.files import open_npz, read_npz

SIDE = 2  # rows and columns of images in a frame
PIXELS = 64  # across an image: larger ones are averaged down by a whole factor
# What each process is, in the words of its window.
WINDOWS = {
    "q": "<strong class='q'>q</strong> adds noise: x<sub>t</sub> of real images",
    "p": "<strong class='p'>p</strong> takes it away: x<sub>t</sub> of new images",
    "x0": "what the network sees in these x<sub>t</sub>: its guess x&#770;<sub>0</sub>",
}


def read_trajectory(path: Path) -> dict[str, np.ndarray]:
    """times [P] (1-based, from T down to 0), and q and p [m, P, H, W, C]; x0, too, where the file is new enough."""
    with open_npz(path) as archive:
        predicted = ["x0"] if "x0.npy" in archive.namelist() else []
    return read_npz(path, "times", "q", "p", *predicted)


def make_viewer(trajectory: dict[str, np.ndarray]) -> dict | None:
    """What the page's slider moves over, from `read_trajectory`; nothing for an unstable run, which has no images."""
    times, shown = trajectory["times"], [name for name in WINDOWS if name in trajectory]
    if not all(len(trajectory[name]) for name in shown):
        return None
    pictures = {name: stack_frames(trajectory[name]) for name in shown}
    height, width = pictures["p"].shape[0] // len(times), pictures["p"].shape[1]
    return {
        "times": times.tolist(),
        "width": width,
        "height": height,
        "windows": [
            {"name": name, "words": words, "uri": to_uri(pictures[name])}
            for name, words in WINDOWS.items()
            if name in pictures
        ],
        "samples": to_uri(arrange(trajectory["p"][:, -1:], len(trajectory["p"]))),
    }


def stack_frames(chain: np.ndarray) -> np.ndarray:
    """The first images of `chain` [m, P, H, W, C] as a square per time, one below the other: [P * h, w, C]."""
    side = min(SIDE, isqrt(len(chain)))
    return arrange(chain[: side**2], side)


def arrange(chain: np.ndarray, columns: int) -> np.ndarray:
    """Images [m, P, H, W, C] in rows of `columns`, which divides m, for each of P one below the other: [h, w, C].

    White lies to the right of each and below it, a sixteenth of its width.
    """
    count, _, _, width, channels = chain.shape
    chain = shrink(chain, -(-width // PIXELS))
    gap = (0, -(-chain.shape[3] // 16))
    tiles = np.pad(chain, ((0, 0), (0, 0), gap, gap, (0, 0)), constant_values=255)
    tiles = tiles.reshape(count // columns, columns, *tiles.shape[1:])
    return tiles.transpose(2, 0, 3, 1, 4, 5).reshape(-1, columns * tiles.shape[4], channels)


def to_uri(picture: np.ndarray) -> str:
    """A picture [h, w, 1 or 3] for an <img>: grey ones as they are, coloured ones as JPEG, as noise is large."""
    grey, buffer = picture.shape[2] == 1, io.BytesIO()
    image = Image.fromarray(picture[..., 0] if grey else picture)
    kind = "png" if grey else "jpeg"
    image.save(buffer, kind, **({} if grey else {"quality": 85, "subsampling": 0}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
