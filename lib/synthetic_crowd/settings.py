"""What a user can choose about the synthetic crowd."""

from __future__ import annotations

from dataclasses import dataclass

_SMALLEST, _LARGEST, _MOST_PEOPLE = 48, 2048, 40
MOST_SCENES = 10**6  # of a split: image ids of splits are that far apart


@dataclass(frozen=True)
class CrowdSettings:
    """Options of the synthetic crowd.

    width, height: pixels of the image, 48 to 2048. min_people, max_people: how many people a scene is
    composed of, 1 to 40; those of whom nearly nothing would be seen are left out, so a scene can have
    fewer. crowd_index: None mixes easy and crowded scenes as CrowdPose does; a number in [0, 1] steers
    every scene towards it. clutter: 0 (bare places) to 1 (many things, some in front of people).

    Raises ValueError that names the field, its value and what is allowed.
    """

    width: int = 192
    height: int = 192
    min_people: int = 1
    max_people: int = 10
    crowd_index: float | None = None
    clutter: float = 0.5

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            _check_integer(name, getattr(self, name), _SMALLEST, _LARGEST)
        _check_integer("min_people", self.min_people, 1, _MOST_PEOPLE)
        _check_integer("max_people", self.max_people, self.min_people, _MOST_PEOPLE)
        if self.crowd_index is not None:
            _check_share("crowd_index", self.crowd_index, "None or ")
        _check_share("clutter", self.clutter)


def _check_integer(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; it must be a whole number from {low} to {high}")


def _check_share(name: str, value: object, also: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"{name} is {value!r}; it must be {also}a number from 0 to 1")
