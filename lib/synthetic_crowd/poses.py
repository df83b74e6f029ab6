"""A library of human activities, each a small function that draws joint angles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from synthetic_crowd.skeleton import ANGLE_LIMITS, FRAME, FRAMES

_LEFT, _RIGHT = 0, 1


class _Draft:
    """Angles (15, 3) under construction: anatomical names in, degrees out."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.angles = rng.normal(0.0, 4.0, (len(FRAMES), 3)).astype(np.float32)
        self.angles[0] *= 0.5

    def set(self, name: str, flexion: float, abduction: float = 0.0, twist: float = 0.0) -> None:
        """Add the given angles to the small tremor of a frame."""
        self.angles[FRAME[name]] += (flexion, abduction, twist)

    def arm(self, side: int, raised: float, out: float = 8.0, twist: float = 0.0, elbow: float = 12.0) -> None:
        """Pose an arm: degrees forward, outwards, twist about itself, and the bend of the elbow."""
        name = ("left", "right")[side]
        self.set(f"{name}_arm", raised, out, twist)
        self.set(f"{name}_forearm", elbow)

    def leg(self, side: int, raised: float, knee: float, out: float = 3.0, toes: float = 0.0) -> None:
        """Pose a leg: degrees forward, the bend of the knee, outwards, and the lift of the toes."""
        name = ("left", "right")[side]
        self.set(f"{name}_thigh", raised, out)
        self.set(f"{name}_shin", knee)
        self.set(f"{name}_foot", toes)

    def u(self, low: float, high: float) -> float:
        """A uniform number."""
        return float(self.rng.uniform(low, high))

    def side(self) -> int:
        """A random side of the body."""
        return int(self.rng.integers(2))


def _idle_arms(d: _Draft) -> None:
    """Arms at rest, on the hips, folded, holding something, or in the pockets."""
    style = d.rng.integers(5)
    for side in (_LEFT, _RIGHT):
        if style == 0:
            d.arm(side, d.u(-8, 12), d.u(4, 14), 0, d.u(5, 25))
        elif style == 1:
            d.arm(side, d.u(-25, -5), d.u(38, 55), -d.u(50, 70), d.u(80, 105))
        elif style == 2:
            d.arm(side, d.u(20, 38), d.u(0, 8), -d.u(50, 75), d.u(90, 115))
        elif style == 3:
            d.arm(side, d.u(5, 30), d.u(2, 14), -d.u(0, 40), d.u(30, 110))
        else:
            d.arm(side, d.u(-30, -10), d.u(8, 22), -d.u(10, 30), d.u(25, 50))


def _stand(d: _Draft) -> None:
    lean = d.u(-3, 8)
    d.set("chest", lean)
    shift = d.u(0, 1)
    d.leg(_LEFT, d.u(-3, 4) + 8 * shift, d.u(0, 6) + 14 * shift, d.u(1, 9))
    d.leg(_RIGHT, d.u(-4, 3), d.u(0, 5), d.u(1, 9))
    d.set("head", d.u(-10, 20), 0, d.u(-45, 45))
    _idle_arms(d)


def _walk(d: _Draft) -> None:
    stride, front = d.u(14, 32), d.side()
    back = 1 - front
    d.leg(front, stride, d.u(3, 12), toes=d.u(0, 10))
    d.leg(back, -stride * 0.75, d.u(10, 38), toes=-d.u(8, 25))
    d.arm(back, stride * d.u(0.7, 1.2), elbow=d.u(10, 40))
    d.arm(front, -stride * d.u(0.7, 1.1), elbow=d.u(5, 25))
    d.set("chest", d.u(0, 8), 0, d.u(-8, 8))


def _run(d: _Draft) -> None:
    front = d.side()
    back = 1 - front
    d.leg(front, d.u(45, 80), d.u(60, 110))
    d.leg(back, -d.u(8, 24), d.u(15, 85), toes=-d.u(20, 45))
    d.arm(back, d.u(25, 60), d.u(5, 20), -d.u(0, 25), d.u(70, 110))
    d.arm(front, -d.u(25, 55), d.u(8, 25), 0, d.u(60, 100))
    d.set("pelvis", d.u(4, 14))
    d.set("chest", d.u(4, 18), 0, d.u(-15, 15))


def _sit(d: _Draft) -> None:
    for side in (_LEFT, _RIGHT):
        d.leg(side, d.u(78, 95), d.u(65, 100), d.u(0, 18))
    d.set("chest", d.u(-8, 25))
    d.set("head", d.u(-10, 30), 0, d.u(-45, 45))
    for side in (_LEFT, _RIGHT):
        d.arm(side, d.u(15, 50), d.u(0, 14), -d.u(0, 40), d.u(25, 95))


def _sit_floor(d: _Draft) -> None:
    d.set("pelvis", d.u(-15, 5))
    bent = d.u(0, 1) < 0.5
    for side in (_LEFT, _RIGHT):
        d.leg(side, d.u(95, 115) if bent else d.u(80, 92), d.u(85, 125) if bent else d.u(0, 30), d.u(0, 30))
        d.arm(side, d.u(-40, 60), d.u(5, 25), 0, d.u(5, 60))
    d.set("chest", d.u(5, 35))


def _crouch(d: _Draft) -> None:
    d.set("pelvis", d.u(10, 35))
    depth = d.u(0.55, 1)
    for side in (_LEFT, _RIGHT):
        d.leg(side, 120 * depth + d.u(-8, 4), 138 * depth + d.u(-8, 8), d.u(4, 25), toes=d.u(0, 20))
        d.arm(side, d.u(30, 90), d.u(0, 20), -d.u(0, 30), d.u(20, 100))
    d.set("chest", d.u(5, 40))
    d.set("head", -d.u(0, 35))


def _reach(d: _Draft) -> None:
    _walk(d) if d.u(0, 1) < 0.3 else _stand(d)
    sides = (d.side(),) if d.u(0, 1) < 0.5 else (_LEFT, _RIGHT)
    raised, out = d.u(70, 172), d.u(-5, 35)
    for side in sides:
        name = ("left", "right")[side]
        d.angles[[FRAME[f"{name}_arm"], FRAME[f"{name}_forearm"]]] = 0
        d.arm(side, raised + d.u(-12, 12), out, d.u(-20, 20), d.u(0, 55))
    d.set("head", -0.1 * raised)


def _dance(d: _Draft) -> None:
    for side in (_LEFT, _RIGHT):
        d.arm(side, d.u(-20, 150), d.u(10, 110), d.u(-60, 60), d.u(10, 120))
        d.leg(side, d.u(-15, 40), d.u(5, 60), d.u(0, 28))
    d.set("chest", d.u(-15, 15), d.u(-18, 18), d.u(-25, 25))
    d.set("pelvis", d.u(-6, 10), d.u(-10, 10))


def _kick(d: _Draft) -> None:
    leg = d.side()
    d.leg(leg, d.u(40, 95), d.u(5, 60), d.u(0, 25), toes=-d.u(0, 35))
    d.leg(1 - leg, d.u(-10, 10), d.u(4, 25))
    d.arm(leg, -d.u(5, 50), d.u(20, 70), 0, d.u(10, 50))
    d.arm(1 - leg, d.u(10, 80), d.u(20, 70), 0, d.u(10, 50))
    d.set("pelvis", -d.u(0, 18), d.u(-10, 10))
    d.set("chest", d.u(0, 22), 0, d.u(-20, 20))


def _jump(d: _Draft) -> None:
    for side in (_LEFT, _RIGHT):
        d.arm(side, d.u(110, 172), d.u(0, 40), 0, d.u(5, 50))
        d.leg(side, d.u(-10, 50), d.u(10, 95), d.u(0, 20), toes=-d.u(10, 40))
    d.set("chest", -d.u(0, 18))


def _bend(d: _Draft) -> None:
    d.set("pelvis", d.u(15, 50))
    d.set("chest", d.u(25, 65))
    for side in (_LEFT, _RIGHT):
        d.leg(side, d.u(30, 60), d.u(10, 50), d.u(0, 15))
        d.arm(side, d.u(30, 100), d.u(-2, 20), 0, d.u(0, 50))


def _embrace(d: _Draft) -> None:
    _stand(d)
    for side in (_LEFT, _RIGHT):
        if d.u(0, 1) < 0.75:
            name = ("left", "right")[side]
            d.angles[[FRAME[f"{name}_arm"], FRAME[f"{name}_forearm"]]] = 0
            d.arm(side, d.u(-15, 10), d.u(60, 92), 0, d.u(5, 30))


def _lie(d: _Draft) -> None:
    d.set("pelvis", d.u(-94, -84) if d.u(0, 1) < 0.65 else d.u(84, 94), d.u(-12, 12))
    for side in (_LEFT, _RIGHT):
        d.arm(side, d.u(-5, 20) + (d.u(0, 150) if d.u(0, 1) < 0.3 else 0), d.u(5, 70), 0, d.u(5, 100))
        d.leg(side, d.u(-2, 35), d.u(0, 60), d.u(0, 22), toes=-d.u(5, 35))
    d.set("head", d.u(0, 20), 0, d.u(-40, 40))


@dataclass(frozen=True)
class Activity:
    """One kind of pose: how often it is drawn, and whether the person needs a seat or leaves the ground."""

    draw: Callable[[_Draft], None]
    share: float
    seated: bool = False
    airborne: bool = False


ACTIVITIES = {
    "stand": Activity(_stand, 0.25),
    "walk": Activity(_walk, 0.18),
    "run": Activity(_run, 0.11, airborne=True),
    "sit": Activity(_sit, 0.09, seated=True),
    "sit_floor": Activity(_sit_floor, 0.03),
    "crouch": Activity(_crouch, 0.05),
    "reach": Activity(_reach, 0.09),
    "dance": Activity(_dance, 0.07),
    "kick": Activity(_kick, 0.03),
    "jump": Activity(_jump, 0.02, airborne=True),
    "bend": Activity(_bend, 0.03),
    "embrace": Activity(_embrace, 0.035),
    "lie": Activity(_lie, 0.015),
}
_NAMES = tuple(ACTIVITIES)
_CUMULATED = np.cumsum([activity.share for activity in ACTIVITIES.values()])


def draw_activity(rng: np.random.Generator) -> str:
    """The name of a random activity, by share."""
    place = np.searchsorted(_CUMULATED, rng.random() * _CUMULATED[-1], side="right")
    return _NAMES[min(int(place), len(_NAMES) - 1)]


def draw_angles(rng: np.random.Generator, activity: str) -> np.ndarray:
    """Joint angles (15, 3) degrees of a random person doing `activity`, inside the joint limits."""
    draft = _Draft(rng)
    ACTIVITIES[activity].draw(draft)
    return np.clip(draft.angles, ANGLE_LIMITS[..., 0], ANGLE_LIMITS[..., 1])
