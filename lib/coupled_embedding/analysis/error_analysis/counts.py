"""Counts that add up over images, the shares made of them, and both as JSON."""

import math
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, TypeVar

T = TypeVar("T")


def sum_counts(kind: type[T], counts: Iterable[T]) -> T:
    """Return the sum, field by field, of dataclasses whose fields are counts; zeros without any."""
    items = list(counts)
    return kind(**{f.name: sum(getattr(item, f.name) for item in items) for f in fields(kind)})  # type: ignore[arg-type]


def share(part: float, whole: float) -> float:
    """Return part / whole; NaN if the whole is 0."""
    return part / whole if whole else math.nan


def for_json(value: Any) -> Any:
    """Return nested dicts and lists with None for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {str(key): for_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [for_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
