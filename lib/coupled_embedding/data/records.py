"""What is known of one image: its file, its people and the regions that training ignores."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from coupled_embedding.data.io.data_errors import DataError, DataIssue
from coupled_embedding.data.io.segmentation import check_segmentation

MAX_PIXELS = 2**28  # of an image: decoded, 0.8 GB


@dataclass(frozen=True)
class ImageRecord:
    """One image with its N annotated people.

    Attributes:
        image_id: the annotation file's id.
        path: the image file.
        width, height: image pixels, as annotated.
        keypoints: (N, K, 3) float32: x, y in image pixels, label (0 none, 1 hidden, 2 seen).
        boxes: (N, 4) float32: x, y, width, height in image pixels.
        ignored: COCO segmentations (polygons or RLE) of crowd regions and of people without
            keypoints, where heatmaps are not trained.
        crowd_index: CrowdPose's measure, None where the file has none.
        annotations: of people, crowd regions and what could not be read, in the file.
        orientation: how an EXIF orientation is read: see `schema.ORIENTATIONS`.
        ids, crowds, num_keypoints, areas: of each person, as the file has them; empty: not known.
        confidence: (N, K) float32 in [0, 1], how much each joint counts in training; None: all count alike.
        annotated: (K,) bool, which joints the data set labels; None: all.
        region: center x, center y and side of a square in image pixels: the record is a crop of one person; None: the
            whole image. See `person_crops`.
        source: of a crop: the annotation's id, or the detection's number; None: it has none.
        box_score: of a crop: of the detected box; 1 where the box is annotated.
    """

    image_id: int
    path: Path
    width: int
    height: int
    keypoints: NDArray[np.float32]
    boxes: NDArray[np.float32]
    ignored: tuple[Any, ...] = ()
    crowd_index: float | None = None
    annotations: int = 0
    orientation: str = "auto"
    ids: tuple[Any, ...] = ()
    crowds: tuple[bool, ...] = ()
    num_keypoints: tuple[int, ...] = ()
    areas: tuple[float, ...] = ()
    confidence: NDArray[np.float32] | None = None
    annotated: NDArray[np.bool_] | None = None
    region: tuple[float, float, float] | None = None
    source: int | None = None
    box_score: float = 1.0

    def valid_mask(self) -> NDArray[np.uint8]:
        """Return (height, width): 255 where errors count, 0 inside the ignored regions.

        Raises:
            DataError: a region is neither polygons nor runs of the image's size.
        """
        runs: list[Any] = []
        for segmentation in self.ignored:
            try:
                runs += _run_lengths(segmentation, self.height, self.width)
            except Exception as error:  # pycocotools raises whatever its C code raises
                shown = f"{str(segmentation)[:80]} ({error})"
                text = f"image {self.image_id} has a segmentation that cannot be read: {shown}"
                raise DataError(DataIssue(str(self.path), text, "segmentation", self.image_id)) from error
        if not runs:
            return np.full((self.height, self.width), 255, np.uint8)
        # one decode for all; its memory is by columns
        ignored = cv2.transpose(coco_mask.decode(coco_mask.merge(runs)).T)
        _, valid = cv2.threshold(ignored, 0, 255, cv2.THRESH_BINARY_INV)
        return np.asarray(valid, np.uint8)


def _run_lengths(segmentation: Any, height: int, width: int) -> list[Any]:
    """Return the compressed run lengths of a segmentation's parts, all of them of height · width pixels."""
    if isinstance(segmentation, dict) and not isinstance(segmentation["counts"], list):
        if list(segmentation["size"]) != [height, width]:
            raise ValueError(f"expected polygons, or runs of size [{height}, {width}]")
        # merging runs that cover too few pixels would never end; a decoded mask has all
        return [coco_mask.encode(coco_mask.decode(segmentation))]
    check_segmentation(segmentation, height, width)
    if isinstance(segmentation, dict):
        return [coco_mask.frPyObjects(segmentation, height, width)]
    # pycocotools would take four numbers as a box; they are a line, which covers nothing
    closed = [polygon for polygon in segmentation if len(polygon) >= 6]
    return coco_mask.frPyObjects(closed, height, width) if closed else []
