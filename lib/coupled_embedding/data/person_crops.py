"""Crops of single people: a square region of the image around each box, annotated or detected."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.people import usable_boxes, whole_number
from coupled_embedding.data.proposals import Proposals
from coupled_embedding.data.records import ImageRecord

MARGIN = 1.25  # of stacked hourglasses, whose boxes are squares of 200 pixels times MPII's "scale"
# pixels, before the margin: what a box without width and height, around one joint, is taken for
SMALLEST_SIDE = 8.0

Region = tuple[float, float, float]


@dataclass(frozen=True)
class PersonBox:
    """A detected person's box.

    Attributes:
        box: x, y, width, height in image pixels.
        score: of the detection.
        source: its number in the file.
    """

    box: tuple[float, float, float, float]
    score: float = 1.0
    source: int | None = None


def square_region(box: Sequence[float] | NDArray[np.floating], margin: float = MARGIN) -> Region:
    """Return the square around a box: center x, center y and side, ``margin`` times the box's longer side.

    >>> square_region((10, 20, 40, 100), 1.25)
    (30.0, 70.0, 125.0)
    """
    x, y, width, height = (float(value) for value in box)
    return x + width / 2, y + height / 2, max(width, height, SMALLEST_SIDE) * margin


def person_crops(records: Sequence[ImageRecord], margin: float = MARGIN) -> list[ImageRecord]:
    """Return one record for each person with a labelled joint: that person's joints, in the square around the box.

    Other people in the crop are background: their joints are not in the record. The image's ignored regions stay.

    Args:
        records: of whole images.
        margin: the square's side in units of the box's longer side; the box of a person without one is the joints'.
    """
    crops = []
    for record in records:
        boxes = usable_boxes(record.boxes, record.keypoints)
        for person in np.flatnonzero((record.keypoints[..., 2] > 0).any(1)).tolist():
            source = whole_number(record.ids[person]) if record.ids else None
            crop = _of_people(record, slice(person, person + 1))
            crops.append(replace(crop, region=square_region(boxes[person], margin), source=source))
    return crops


def _of_people(record: ImageRecord, people: slice) -> ImageRecord:
    """Return a record with some of its people."""
    return replace(
        record,
        keypoints=record.keypoints[people],
        boxes=record.boxes[people],
        confidence=None if record.confidence is None else record.confidence[people],
        ids=record.ids[people],
        crowds=record.crowds[people],
        num_keypoints=record.num_keypoints[people],
        areas=record.areas[people],
    )


def box_crops(
    records: Sequence[ImageRecord], boxes: Mapping[int, Sequence[PersonBox]], margin: float = MARGIN
) -> list[ImageRecord]:
    """Return one record for each detected box, without annotated people, in the images' order.

    Args:
        records: of whole images; boxes of other images are left out.
        boxes: by image id.
        margin: the square's side in units of the box's longer side.
    """
    empty = [_of_people(record, slice(0)) for record in records]
    return [
        replace(
            record,
            region=square_region(found.box, margin),
            source=found.source,
            box_score=found.score,
        )
        for record in empty
        for found in boxes.get(record.image_id, ())
    ]


@dataclass(frozen=True)
class ProposedRegions:
    """Draws the squares that crops of people are seen in while training, around proposed boxes.

    Attributes:
        proposals: draw boxes around annotated ones.
        margin: a square's side in units of the box's longer side.
    """

    proposals: Proposals
    margin: float = MARGIN

    def __call__(self, rng: np.random.Generator, record: ImageRecord) -> Region:
        """Draw the region of a crop's record, of one person."""
        box = usable_boxes(record.boxes, record.keypoints)[0]
        return square_region(self.proposals.propose(rng, box, record.keypoints[0]), self.margin)
