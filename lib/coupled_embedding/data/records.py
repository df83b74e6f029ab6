"""What is known of one photo: its file, its people and the regions that training ignores."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask


@dataclass(frozen=True)
class ImageRecord:
    """One photo with its N annotated people.

    Attributes:
        image_id: the annotation file's id.
        path: the image file.
        width, height: photo pixels, as annotated.
        keypoints: (N, K, 3) float32: x, y in photo pixels, label (0 none, 1 hidden, 2 seen).
        boxes: (N, 4) float32: x, y, width, height in photo pixels.
        ignored: COCO segmentations (polygons or RLE) of crowd regions and of people without
            keypoints, where heatmaps are not trained.
        crowd_index: CrowdPose's figure, None where the file has none.
    """

    image_id: int
    path: Path
    width: int
    height: int
    keypoints: NDArray[np.float32]
    boxes: NDArray[np.float32]
    ignored: tuple[Any, ...] = ()
    crowd_index: float | None = None

    def valid_mask(self) -> NDArray[np.uint8]:
        """Return (height, width): 255 where errors count, 0 inside the ignored regions."""
        mask = np.full((self.height, self.width), 255, np.uint8)
        for segmentation in self.ignored:
            mask[_decode(segmentation, self.height, self.width) > 0] = 0
        return mask


def _decode(segmentation: Any, height: int, width: int) -> NDArray[np.uint8]:
    runs = coco_mask.frPyObjects(segmentation, height, width) if _needs_encoding(segmentation) else segmentation
    if isinstance(runs, list):
        runs = coco_mask.merge(runs)
    return coco_mask.decode(runs)


def _needs_encoding(segmentation: Any) -> bool:
    return isinstance(segmentation, list) or isinstance(segmentation["counts"], list)
