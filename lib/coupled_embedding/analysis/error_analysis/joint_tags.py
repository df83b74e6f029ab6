"""The tags that a network gives the true joints of a photo."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.geometry import TestGeometry, apply_affine
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.decode.aggregate import PhotoMaps


@dataclass(frozen=True)
class JointTags:
    """Tags at the true joints of a photo's N people.

    Attributes:
        values: (N, K, T) float64 as grouping sees them: D values, and with the mirrored photo
            its D values behind them, T = 2·D. 0 where there is none.
        present: (N, K) bool: labelled and inside the input.
        dims: D.
        true_scales: (N,) square root of each person's box area in input pixels, over S.
    """

    values: NDArray[np.float64]
    present: NDArray[np.bool_]
    dims: int
    true_scales: NDArray[np.float64]

    @property
    def plain(self) -> NDArray[np.float64]:
        """(N, K, D) tags of the photo itself, without its mirror image."""
        return self.values[..., : self.dims]

    def means(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return each person's mean (N, T) of tags (N, K, T) over the present joints, 0 where none is."""
        return values.sum(1) / np.maximum(self.present.sum(1), 1)[:, None]


def joint_tags(record: ImageRecord, maps: PhotoMaps, geometry: TestGeometry, input_size: int) -> JointTags:
    """Read the tags under the pixels of true joints, enlarged to the input as decode does.

    Args:
        record: the photo.
        maps: what the network put out for it.
        geometry: how the photo lies in the input.
        input_size: S, pixels.
    """
    width, height = geometry.base_size
    pixels = np.floor(apply_affine(geometry.to_input(), record.keypoints[..., :2])).astype(np.int64)  # (N, K, 2)
    present = (record.keypoints[..., 2] > 0) & (pixels >= 0).all(-1) & (pixels < (width, height)).all(-1)
    dims = maps.tags[0].values.shape[-1]
    values = np.zeros((*present.shape, dims * len(maps.tags)))
    for joint in range(present.shape[1]):
        people = np.flatnonzero(present[:, joint])
        layers = [layer.at(joint, pixels[people, joint], (height, width)) for layer in maps.tags]
        values[people, joint] = np.concatenate(layers, 1)
    sides = np.sqrt(np.maximum(record.boxes[:, 2] * record.boxes[:, 3], 0.0).astype(np.float64))
    return JointTags(values, present, dims, sides * width / geometry.side / input_size)
