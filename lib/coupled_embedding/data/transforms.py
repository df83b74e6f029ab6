"""Augmentation: sampled affine parameters, one warp of image, joints and mask (docs/method.md 2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.geometry import Array, apply_affine, crop_to_output_affine, of_reduced

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class AffineParams:
    """Sampled parameters of the augmentation.

    Attributes:
        scale: the side of what is seen in units of the image's short side, or of the region's; above 1 zooms out.
        rotation: degrees.
        translate: (x, y) image pixels by which the center of what is seen moves; whole ones without a region.
        flip: flip the result horizontally.
        region: center x, center y and side in image pixels of the part of the image that all this is about; None: the
            whole image.
    """

    scale: float
    rotation: float
    translate: tuple[float, float]
    flip: bool
    region: tuple[float, float, float] | None = None

    def side(self, image_size: tuple[int, int]) -> float:
        """Return the side of what is seen in pixels of an image of (width, height)."""
        if self.region:
            return self.region[2] * self.scale
        # float32 with these roundings, in units of 200 pixels, is the released program's side to the last bit; NumPy
        # rounds a plain float before it multiplies a float32, but not a float64: the recordings have both
        side = np.float32(np.float32(min(image_size)) * self.scale)
        return float(side / np.float32(200) * np.float32(200))

    def matrix(self, image_size: tuple[int, int], output_size: int, reduction: int = 1) -> Array:
        """Return the map from image pixels to a square output, before the flip.

        Args:
            image_size: the image's (width, height).
            reduction: map from the pixels of the image decoded by this factor smaller instead.
        """
        middle = self.region[:2] if self.region else (image_size[0] / 2, image_size[1] / 2)
        center = (middle[0] + self.translate[0], middle[1] + self.translate[1])
        matrix = crop_to_output_affine(center, self.side(image_size), self.rotation, (output_size, output_size))
        return of_reduced(matrix, reduction)


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the parameters; the defaults are the paper's.

    Attributes:
        scale: range of `AffineParams.scale`.
        rotation: largest rotation, ± degrees.
        translate: largest shift, ± a share of the scaled image size, or of the region's scaled side.
        flip: probability of a flip.
        exact_flip: flip joints exactly in image pixels. The released program's flip puts most of them one heatmap
            cell off, which the paper's results include.
        color: contrast and saturation vary by up to ± this share, brightness by up to ± half of it.
    """

    scale: tuple[float, float] = (0.75, 1.5)
    rotation: float = 30.0
    translate: float = 0.2
    flip: float = 0.5
    exact_flip: bool = False
    color: float = 0.0

    def sample(
        self,
        rng: np.random.Generator,
        image_size: tuple[int, int],
        region: tuple[float, float, float] | None = None,
    ) -> AffineParams:
        """Sample parameters for an image of (width, height), or for a region of it."""
        scale = rng.uniform(*self.scale)
        rotation = rng.uniform(-self.rotation, self.rotation)
        if region:
            # a person may be few pixels wide: not in whole ones
            shift = (self.translate * scale * region[2] * rng.uniform(-1, 1, 2)).tolist()
        else:
            shift = [self._shift(rng, self.translate * scale * length) for length in image_size]
        return AffineParams(scale, rotation, (shift[0], shift[1]), bool(rng.random() < self.flip), region)

    @staticmethod
    def _shift(rng: np.random.Generator, limit: float) -> int:
        whole = int(limit)
        return int(rng.integers(-whole, whole)) if whole > 0 else 0  # half-open, as in the released program

    def jitter_color(self, rng: np.random.Generator, image: Image) -> Image:
        """Return a BGR image with brightness, contrast and saturation varied."""
        if not self.color:
            return image
        contrast, saturation = 1 + self.color * rng.uniform(-1, 1, 2)
        brightness = 255 * self.color * rng.uniform(-0.5, 0.5)
        # both are linear in the colors, so one 3×4 matrix does them: gray = luma weights
        gray = np.tile(np.array([0.114, 0.587, 0.299]), (3, 1))
        mix = contrast * (saturation * np.eye(3) + (1 - saturation) * gray)
        offset = 127.5 * (1 - contrast) + brightness
        mixed = cv2.transform(image, np.hstack([mix, np.full((3, 1), offset)]))
        return np.asarray(mixed, np.uint8)


def warp_image(
    image: Image, params: AffineParams, size: int, image_size: tuple[int, int] | None = None, reduction: int = 1
) -> Image:
    """Warp an image (h, w, 3) bilinearly to (size, size, 3) with a black border, then flip.

    Args:
        image: the image, or the image decoded ``reduction`` times smaller.
        image_size: (width, height) of the whole image; None: the image's.
    """
    matrix = params.matrix(image_size or (image.shape[1], image.shape[0]), size, reduction)
    # OpenCV warps four channels in less than half the time of three, to the same values
    four = cv2.cvtColor(image, cv2.COLOR_BGR2BGRA)
    warped = cv2.warpAffine(four, matrix, (size, size), flags=cv2.INTER_LINEAR)
    return _flipped(cv2.cvtColor(warped, cv2.COLOR_BGRA2BGR), params)


def warp_mask(mask: Image, params: AffineParams, size: int) -> NDArray[np.bool_]:
    """Warp a 0/255 mask (h, w) to (size, size), then flip; outside the image False, or with a region True.

    A test of a person's crop looks for the joints in all of it: training has to show that there are none outside.
    """
    matrix = params.matrix((mask.shape[1], mask.shape[0]), size)
    border = (255,) if params.region else (0,)
    warped = cv2.warpAffine(mask, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=border)
    return _flipped(warped, params) > 127  # of 255: the released program's "over a half"


def _flipped(image: NDArray[Any], params: AffineParams) -> Image:
    return np.asarray(cv2.flip(image, 1) if params.flip else image, np.uint8)


def warp_joints(
    keypoints: NDArray[np.float32],
    params: AffineParams,
    image_size: tuple[int, int],
    size: int,
    flip_index: Sequence[int],
    flip_gap: float = 1.0,
) -> NDArray[np.float32]:
    """Map joints (N, K, 3) from image pixels to cells of a (size, size) map.

    Args:
        image_size: the image's (width, height).
        flip_index: for each joint, its partner in a flipped image.
        flip_gap: a flip takes x to ``size - flip_gap - x``: 1 in the released program;
            one input pixel (in cells) is exact.

    Returns:
        (N, K, 3) float32: x, y in cells, label unchanged.
    """
    warped = keypoints.copy()
    warped[..., :2] = apply_affine(params.matrix(image_size, size), keypoints[..., :2])
    if params.flip:
        warped = warped[:, list(flip_index)]
        warped[..., 0] = np.float32(size - flip_gap) - warped[..., 0]
    return warped


def person_scales(boxes: NDArray[np.floating], matrix: Array, input_size: int) -> NDArray[np.float64]:
    """Return sqrt(side₁·side₂)/S of boxes (N, 4) after an affine map to the S × S input.

    The sides are those of the mapped (rotated) box, so rotation does not change them.
    """
    sides = boxes[:, 2:].astype(np.float64)
    lengths = np.linalg.norm(matrix[:, :2], axis=0)  # an image pixel's length along each axis
    return np.sqrt(sides[:, 0] * lengths[0] * sides[:, 1] * lengths[1]) / input_size


def top_labelled(keypoints: NDArray[np.float32], limit: int) -> NDArray[np.intp]:
    """Return the indices of the ``limit`` people with most labelled joints, in their old order."""
    labelled = (keypoints[..., 2] > 0).sum(1)
    return np.sort(np.argsort(-labelled, kind="stable")[:limit])
