"""Affine maps between an image and the network's inputs and outputs. The one builder of them.

Coordinates are (x, y) in pixels, y down. An affine map is a (2, 3) float64 array A that takes
image point p to A[:, :2] @ p + A[:, 2].
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def crop_to_output_affine(
    center: tuple[float, float], side: float, rotation: float, output_size: tuple[int, int], inverse: bool = False
) -> Array:
    """Return the map of a rotated region of the image, ``side`` wide, onto an output image.

    The region's center goes to the middle of the output, its width to the output's width; one uniform scale. Three
    float32 points define the map, as in the released program, whose last digits this keeps.

    Args:
        center: image pixels.
        side: the region's width in image pixels, above 0.
        rotation: degrees.
        output_size: (width, height) in output pixels.
        inverse: return the map from output to image instead.
    """
    angle = math.pi * rotation / 180
    edge = -0.5 * side
    top = (-edge * math.sin(angle), edge * math.cos(angle))
    source = np.zeros((3, 2), np.float32)
    target = np.zeros((3, 2), np.float32)
    source[0] = center
    source[1] = np.asarray(center) + top
    target[0] = (0.5 * output_size[0], 0.5 * output_size[1])
    target[1] = target[0] + np.array([0, -0.5 * output_size[0]], np.float32)
    for points in (source, target):
        edge_vector = points[0] - points[1]
        points[2] = points[1] + np.array([-edge_vector[1], edge_vector[0]], np.float32)
    pair = (target, source) if inverse else (source, target)
    return np.asarray(cv2.getAffineTransform(*pair), np.float64)


def apply_affine(matrix: Array, points: NDArray[np.floating]) -> Array:
    """Map points of shape (..., 2) by a (2, 3) affine map; the result is float64."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def of_reduced(matrix: Array, reduction: int) -> Array:
    """Return a map from image pixels as one from the pixels of the image decoded ``reduction`` times smaller."""
    if reduction > 1:
        # pixel centers are at whole numbers: pixel x of the reduced image covers r·x + (r − 1)/2 of the image
        matrix[:, 2] += matrix[:, :2].sum(1) * (reduction - 1) / 2
        matrix[:, :2] *= reduction
    return matrix


@dataclass(frozen=True)
class ResizeGeometry:
    """How an image is resized to the network's input at test time (docs/method.md 5.1).

    Attributes:
        base_size: (width, height) of the input at scale factor 1, multiples of the divisor.
        center: what goes to the middle of the input: the image's middle, each coordinate rounded half to even, or that
            of a region.
        side: image pixels that the input's width covers.
    """

    base_size: tuple[int, int]
    center: tuple[float, float]
    side: float

    def size(self, factor: float = 1.0) -> tuple[int, int]:
        """Return the (width, height) of the input at a scale factor."""
        return int(factor * self.base_size[0]), int(factor * self.base_size[1])

    def to_input(self, factor: float = 1.0, reduction: int = 1) -> Array:
        """Return the map from image pixels to input pixels at a scale factor; ``reduction`` as for `of_reduced`."""
        return of_reduced(crop_to_output_affine(self.center, self.side, 0.0, self.size(factor)), reduction)

    def to_image(self) -> Array:
        """Return the map from input pixels at factor 1 back to image pixels."""
        return crop_to_output_affine(self.center, self.side, 0.0, self.base_size, inverse=True)


def _round_up(value: float, divisor: int) -> int:
    # of the fractional value: 768.77 becomes 832, though it is less than a whole pixel above 768
    return math.ceil(value / divisor) * divisor


def resize_geometry(image_size: tuple[int, int], input_size: int, divisor: int = 64) -> ResizeGeometry:
    """Resize an image of (width, height) so that its short side fills ``input_size``.

    The short side becomes ``input_size`` rounded up to a multiple of ``divisor``; the other keeps the ratio and is
    rounded up likewise, so the image covers the short side exactly and black borders appear along the long one.

    >>> resize_geometry((500, 333), 512).base_size
    (832, 512)
    """
    width, height = image_size
    short = _round_up(input_size, divisor)
    if width < height:
        long = _round_up(short / width * height, divisor)
        base_size, side = (short, long), float(width)
    else:
        long = _round_up(short / height * width, divisor)
        base_size, side = (long, short), long / short * height
    return ResizeGeometry(base_size, (int(np.rint(width / 2)), int(np.rint(height / 2))), side)


def region_geometry(region: tuple[float, float, float], input_size: int) -> ResizeGeometry:
    """Resize a square region of an image, center x, center y and side in image pixels, to a square input."""
    return ResizeGeometry((input_size, input_size), region[:2], region[2])
