"""The rules by which benchmarks score keypoints; a schema names one as its ``evaluator``, and a new one is an entry."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ALL_AREAS = ((0.0, 1e5**2),)
OKS_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())  # to the bit those of pycocotools


@dataclass(frozen=True)
class Evaluator:
    """A benchmark's rules: AP and AR by the OKS, or with a ``normalizer`` the share of right joints (PCK).

    Attributes:
        scores: names in order: AP or AR, percent of the OKS (none: mean over the thresholds), M or L (none: all areas).
        areas: ranges of all, M and L, in square pixels.
        bands: whether AP is also given by crowd index.
        box_areas: whether a person's area is 0.53 · width · height of the box, whatever area the file has.
        max_detections: of an image that count, best first.
        thresholds: of the OKS from which on a detection is right; with a normalizer: of the distance within which a
            joint is right, in units of it, the main one first.
        normalizer: a person's size that distances are measured by: ``"torso"``, ``"head"`` or ``"box"``, see `pck`.
    """

    scores: Sequence[str] = ()
    areas: Sequence[tuple[float, float]] = ALL_AREAS
    bands: bool = False
    box_areas: bool = False
    max_detections: int = 20
    thresholds: Sequence[float] = OKS_THRESHOLDS
    normalizer: str = ""

    def area_limits(self, area: str) -> str:
        """Return the range of the areas M or L in words."""
        low, high = self.areas[("", "M", "L").index(area)]
        return f"above {low**0.5:g}²" if high == ALL_AREAS[0][1] else f"from {low**0.5:g}² to {high**0.5:g}²"


EVALUATORS = {
    # small people are not annotated with keypoints
    "coco": Evaluator(
        ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR", "AR50", "AR75", "AR_M", "AR_L"),
        (*ALL_AREAS, (32.0**2, 96.0**2), (96.0**2, 1e5**2)),
    ),
    "crowdpose": Evaluator(("AP", "AP50", "AP75", "AR", "AR50", "AR75"), bands=True, box_areas=True),
    # of one person a crop
    "pck": Evaluator(thresholds=(0.2,), normalizer="torso"),
    "pck_box": Evaluator(thresholds=(0.2,), normalizer="box"),
    "pckh": Evaluator(thresholds=(0.5, 0.1), normalizer="head"),
}
