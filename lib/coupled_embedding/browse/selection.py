"""The list of images: figures of each, filters, and orders."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from coupled_embedding.analysis.error_analysis.keypoint_errors import KINDS

PEOPLE_ERRORS = ("missed", "background", "surplus")
ERRORS = (*KINDS[1:], *PEOPLE_ERRORS)


@dataclass(frozen=True)
class ImageFigures:
    """An image in numbers; those of its errors are None and empty until its people are predicted.

    Attributes:
        image_id, name: of the image, and its file's name.
        people: who have a labelled joint.
        crowd_index: in [0, 1].
        predicted: whether its predictions are known, or why there are none.
        oks: mean over the people who count, 0 for one who was missed; None also if there are none.
        errors: how many joints are of each of `KINDS`, people missed, detections that fit no person (background)
            and that fit a person who is matched already (surplus).
        problem: why the image has no predictions.
    """

    image_id: int
    name: str
    people: int
    crowd_index: float
    predicted: bool = False
    oks: float | None = None
    errors: dict[str, int] = field(default_factory=dict)
    problem: str = ""


def _most(error: str) -> Callable[[ImageFigures], float]:
    """Return what orders images by how many errors of a kind they have, most first."""
    return lambda image: -image.errors.get(error, -1)


# worst first; an image without a number comes last, and ids decide between equals
ORDERS: dict[str, Callable[[ImageFigures], float]] = {
    "worst": lambda image: math.inf if image.oks is None else image.oks,
    "id": lambda image: image.image_id,
    "crowd": lambda image: -image.crowd_index,
    "people": lambda image: -image.people,
    **{error: _most(error) for error in ERRORS},
}


@dataclass(frozen=True)
class Selection:
    """Which images are listed, and in which order; limits that are None do not matter, others include themselves.

    Attributes:
        order: a key of `ORDERS`.
        min_crowd, max_crowd: of the crowd index; min_people, max_people: of the number of people.
        min_oks, max_oks: of the mean OKS; with one of them images without it are left out.
    """

    order: str = "worst"
    min_crowd: float | None = None
    max_crowd: float | None = None
    min_people: float | None = None
    max_people: float | None = None
    min_oks: float | None = None
    max_oks: float | None = None

    def of(self, images: Iterable[ImageFigures]) -> list[ImageFigures]:
        """Return the chosen images in order."""
        key = ORDERS[self.order]
        return sorted(filter(self._fits, images), key=lambda image: (key(image), image.image_id))

    def _fits(self, image: ImageFigures) -> bool:
        return (
            _within(image.crowd_index, self.min_crowd, self.max_crowd)
            and _within(image.people, self.min_people, self.max_people)
            and _within(image.oks, self.min_oks, self.max_oks)
        )


def _within(value: float | None, low: float | None, high: float | None) -> bool:
    if value is None:
        return low is None and high is None
    return (low is None or value >= low) and (high is None or value <= high)


def totals(images: Iterable[ImageFigures]) -> dict[str, Any]:
    """Return the sums over images: how many have predictions, and of each error."""
    known = [image for image in images if image.predicted]
    sums = {name: sum(image.errors.get(name, 0) for image in known) for name in (*KINDS, *PEOPLE_ERRORS)}
    return {"predicted": len(known), "errors": sums}
