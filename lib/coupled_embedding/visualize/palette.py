"""Colours of people, and the pictures that they are drawn on. All colours are (blue, green, red)."""

import colorsys

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Color = tuple[int, int, int]

INK: Color = (24, 20, 20)

# red, green, blue; neighbours in the list are far apart in hue, and none is dark, so that the
# darker shade of a right arm still shows on a photo
_FIRST_PEOPLE = (
    (255, 64, 56),
    (0, 194, 255),
    (255, 221, 20),
    (196, 96, 255),
    (60, 226, 90),
    (255, 142, 20),
    (72, 118, 255),
    (255, 104, 196),
    (0, 228, 196),
    (196, 255, 64),
    (255, 176, 158),
    (170, 152, 255),
)
_GOLDEN_TURN = 0.61803398875


def checked_image(image: Image) -> Image:
    """Return a copy of a (H, W, 3) uint8 picture to draw on; ValueError for anything else."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"expected a (H, W, 3) uint8 BGR picture, got {image.shape} {image.dtype}")
    return np.array(image, order="C")


def person_color(index: int) -> Color:
    """Return the colour of the person at a place in a list: the same in each call, another for each place."""
    if index < len(_FIRST_PEOPLE):
        red, green, blue = _FIRST_PEOPLE[index]
    else:
        hue = index * _GOLDEN_TURN % 1
        shade = index % 3
        values = colorsys.hsv_to_rgb(hue, (0.9, 0.6, 0.75)[shade], (1.0, 0.95, 0.85)[shade])
        red, green, blue = (round(255 * value) for value in values)
    return blue, green, red


def mixed(color: Color, other: Color, share: float) -> Color:
    """Return ``color`` with a ``share`` (0 to 1) of it replaced by ``other``."""
    blue, green, red = (round((1 - share) * a + share * b) for a, b in zip(color, other))
    return blue, green, red
