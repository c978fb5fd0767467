"""Crops and filters are those that the papers' code uses."""

import numpy as np
import pytest
from PIL import Image
from published import encoded, picture

from ddpm.data import pictures
from ddpm.data.readers.celeba import crop_face


@pytest.mark.parametrize(("width", "height"), [(341, 256), (256, 341), (300, 301), (301, 300), (64, 64), (20, 7)])
def test_square_is_what_stylegan2s_tool_cuts_and_resizes(width, height):
    image = picture(0, width, height)
    array, side = np.asarray(image), min(width, height)
    # create_lsun: img[(h - crop) // 2 : (h + crop) // 2, (w - crop) // 2 : (w + crop) // 2], then ANTIALIAS.
    cut = array[
        (height - side) // 2 : (height + side) // 2,
        (width - side) // 2 : (width + side) // 2,
    ]
    assert np.array_equal(pictures.to_array(pictures.crop_and_resize(image, side)), cut)
    expected = Image.fromarray(cut).resize((256, 256), Image.Resampling.LANCZOS)
    assert np.array_equal(pictures.to_array(pictures.crop_and_resize(image, 256)), np.asarray(expected))


@pytest.mark.parametrize("filter", [Image.Resampling.LANCZOS, Image.Resampling.BILINEAR])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_crops_and_resizes_are_pillows_to_the_last_pixel(filter, mode):
    """As data sets were prepared before torchvision did it."""
    for seed, (width, height) in enumerate([(341, 256), (300, 303), (8, 8), (5, 31)]):
        image = picture(seed, width, height, mode)
        part = image.crop((1, 2, 5, 6))
        assert np.array_equal(pictures.to_array(pictures.crop(image, 2, 1, 4)), pictures.to_array(part))
        for size in (8, 64, 256):
            expected = pictures.to_array(image.resize((size, size), filter))
            assert np.array_equal(pictures.to_array(pictures.resize(image, size, filter)), expected)


def test_an_image_of_the_right_size_is_not_filtered():
    image = picture(0, 256, 256)
    assert np.array_equal(pictures.to_array(pictures.crop_and_resize(image, 256)), np.asarray(image))


def test_faces_are_cut_and_resized_as_the_authors_of_ddim_do():
    image = picture(1, 178, 218)
    from torchvision.transforms import functional as TF

    cx, cy = 89, 121  # ermongroup/ddim, datasets/__init__.py
    expected = TF.resize(TF.crop(image, cy - 64, cx - 64, 128, 128), 64)  # torchvision's defaults there
    assert np.array_equal(pictures.to_array(crop_face(image, 64)), np.asarray(expected))
    plain = image.crop((25, 57, 153, 185)).reduce(2)  # a box filter: near, and not the same
    assert not np.array_equal(np.asarray(plain), np.asarray(expected))


MODES = [(form, mode) for form in ("PNG", "JPEG", "WEBP") for mode in ("RGB", "L", "RGBA", "P")]


@pytest.mark.parametrize(("form", "mode"), [pair for pair in MODES if pair not in (("JPEG", "RGBA"), ("JPEG", "P"))])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_encoding_becomes_grey_or_rgb(form, mode, channels):
    image, facts = pictures.decode(encoded(picture(2, 9, 7, mode), form), channels)
    array = pictures.to_array(image)
    assert (array.shape, array.dtype, facts[0]) == ((7, 9, channels), np.uint8, ("published_as", f"{form} 9x7"))


def test_grey_becomes_three_equal_channels():
    grey = picture(3, 8, 8, "L")
    array = pictures.to_array(pictures.decode(encoded(grey), 3)[0])
    assert np.array_equal(array, np.asarray(grey)[..., None].repeat(3, 2))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_what_is_cut_off_or_no_image_is_refused(form):
    whole = encoded(picture(4, 64, 64), form)
    for content in (whole[: len(whole) // 2], whole[:10], b"", b"text"):
        with pytest.raises(pictures.Undecodable):
            pictures.decode(content, 3)
