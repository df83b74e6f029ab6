"""Colors of people, and the images that they are drawn on. All colors are (blue, green, red)."""

import colorsys

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Color = tuple[int, int, int]

INK: Color = (24, 20, 20)

# red, green, blue; the first ones are the farthest apart, and none is dark, so that the darker shade of a right arm is
# still visible on an image. Chosen by a search for the largest least distance (CIE Lab) as people of normal sight and
# the color-blind see them: among the first eight 26 without red or green cones, 62 with all
_FIRST_PEOPLE = bytes.fromhex("ffdf00 c926ff 4de9ff ff0000 ff2693 99ff99 a18ae6 d17b5e ff99cc d1b45e ff9f00 d13fbf")
_GOLDEN_TURN = 0.61803398875


def checked_image(image: Image) -> Image:
    """Return a copy of a (H, W, 3) uint8 image to draw on; ValueError for anything else."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"expected a (H, W, 3) uint8 BGR image, got {image.shape} {image.dtype}")
    return np.array(image, order="C")


def person_color(index: int) -> Color:
    """Return the color of the person at a place in a list: the same in each call, another for each place."""
    if 3 * index < len(_FIRST_PEOPLE):
        red, green, blue = _FIRST_PEOPLE[3 * index : 3 * index + 3]
    else:
        shade = index % 3
        values = colorsys.hsv_to_rgb(index * _GOLDEN_TURN % 1, (0.9, 0.6, 0.75)[shade], (1.0, 0.95, 0.85)[shade])
        red, green, blue = (round(255 * value) for value in values)
    return blue, green, red


def mixed(color: Color, other: Color, share: float) -> Color:
    """Return ``color`` with a ``share`` (0 to 1) of it replaced by ``other``."""
    blue, green, red = (round((1 - share) * a + share * b) for a, b in zip(color, other))
    return blue, green, red
