"""Counts that add up over photos, and the shares made of them."""

import math
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, TypeVar

T = TypeVar("T")


def total(kind: type[T], tallies: Iterable[T]) -> T:
    """Return the sum, field by field, of dataclasses whose fields are counts; zeros where there is none."""
    items = list(tallies)
    sums: dict[str, Any] = {f.name: sum(getattr(item, f.name) for item in items) for f in fields(kind)}  # type: ignore[arg-type]
    return kind(**sums)


def share(part: float, whole: float) -> float:
    """Return part / whole; NaN where there is nothing to share."""
    return part / whole if whole else math.nan


def for_json(value: Any) -> Any:
    """Return nested dicts and lists with None for NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {str(key): for_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [for_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
