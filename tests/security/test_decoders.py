"""Foreign bytes reach the decoders of the formats that are promised, and no other."""

import io
import zlib

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image
from published import png_chunk

from ddpm.config.errors import DamagedFile
from ddpm.config.registry import resolve
from ddpm.data import pictures
from ddpm.data.readers import folder, refuse_damaged

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(it ran) (w) file closefile\n%%EOF\n"


def encoded(form: str) -> bytes:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(buffer := io.BytesIO(), form)
    return buffer.getvalue()


# Would fail if Pillow chose the format: it starts Ghostscript for EPS, whatever the file's name.
def test_no_program_is_started(monkeypatch, tmp_path):
    started = []

    def ghostscript(*command, **options):
        started.append(command)
        raise OSError("Ghostscript was asked")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", ghostscript)
    (tmp_path / "x.jpg").write_bytes(EPS)
    parts = folder.read(resolve("mine", {"root": tmp_path, "image_size": 8}), tmp_path, 1)
    assert not list(parts["train"].batches)
    with pytest.raises(DamagedFile, match=r"x\.jpg: is no whole image"):
        refuse_damaged(parts.values())
    assert not started


# Would fail if a reader took formats that nobody promised.
@pytest.mark.parametrize("form", ["BMP", "DDS", "EPS", "GIF", "ICNS", "ICO", "PCX", "SGI", "TGA", "TIFF"])
def test_published_sets_take_the_formats_they_are_published_in(form):
    with pytest.raises(pictures.Undecodable):
        pictures.decode(encoded(form), 3)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_the_promised_formats_are_read(form):
    assert pictures.decode(encoded(form), 3)[1][0] == ("published_as", f"{form} 8x8")


@pytest.mark.parametrize("form", pictures.USER_FORMATS)
def test_a_folder_takes_what_its_suffixes_promise(form):
    assert pictures.decode(encoded(form), 3, pictures.USER_FORMATS)[1][0] == ("published_as", f"{form} 8x8")
    promised = "jpg jpeg jfif jpe png webp bmp gif ppm pgm pnm pbm tif tiff avif jp2 tga"
    assert {f".{suffix}" for suffix in promised.split()} <= set(folder.SUFFIXES)
    assert not set(folder.SUFFIXES) & {".eps", ".ps", ".pdf", ".wmf", ".h5", ".fits", ".mpg"}


# Would fail if an image's size were not looked at before its pixels are made: these take 530 MB in each thread.
def test_a_bomb_is_not_unpacked():
    side = 13_300
    header = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    packed = zlib.compressobj(9)
    rows = b"".join(packed.compress(bytes(1 + 3 * side)) for _ in range(side)) + packed.flush()
    png = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")
    assert len(png) < 10**6
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(pictures.Undecodable, match="13300x13300 pixels"):
        pictures.decode(png, 3)
