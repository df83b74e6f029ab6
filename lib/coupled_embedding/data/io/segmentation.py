"""Whether a COCO segmentation is valid, checked without drawing it."""

from typing import Any

import numpy as np

MAX_COORDINATE = 100_000  # pixels; pycocotools walks a polygon's edges pixel by pixel


def check_segmentation(segmentation: Any, height: int, width: int) -> None:
    """Raise ValueError unless a segmentation is polygons, or runs of all height · width pixels."""
    if isinstance(segmentation, list):
        for polygon in segmentation:
            _check_polygon(polygon)
        return
    if not isinstance(segmentation, dict) or segmentation.get("size") != [height, width]:
        raise ValueError(f"expected polygons, or runs of size [{height}, {width}]")
    counts = segmentation.get("counts")
    if isinstance(counts, str | bytes):
        counts = compressed_counts(counts)
    if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError("runs must be whole numbers from 0")
    if sum(counts) != height * width:
        raise ValueError(f"runs cover {sum(counts)} of {height * width} pixels")


def _check_polygon(polygon: Any) -> None:
    try:
        numbers = np.asarray(polygon)
    except ValueError as error:
        raise ValueError("a polygon must be a list of numbers") from error
    if not isinstance(polygon, list) or numbers.ndim != 1 or (polygon and numbers.dtype.kind not in "iuf"):
        raise ValueError("a polygon must be a list of numbers")
    if len(polygon) % 2 or not (np.abs(numbers) <= MAX_COORDINATE).all():
        raise ValueError(f"a polygon must be pairs of x and y within ±{MAX_COORDINATE}")


def compressed_counts(text: str | bytes) -> list[int]:
    """Return the run lengths of COCO's compressed form: five bits a character, from the third on as differences.

    Raises:
        ValueError: a character is none of the form's, or the last run is not complete.
    """
    counts: list[int] = []
    value = shift = 0
    for code in text.encode("utf-8", "replace") if isinstance(text, str) else text:
        bits = code - 48
        if not 0 <= bits < 64:
            raise ValueError(f"compressed runs hold the character {chr(code)!r}")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << (shift - 4)  # the last character's highest bit is the sign
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("compressed runs end within a number")
    return counts
