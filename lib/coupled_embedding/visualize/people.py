"""People drawn as stick figures: poses and annotations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.outputs import Pose
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.visualize.canvas import Canvas, Points
from coupled_embedding.visualize.palette import INK, Color, Image, checked_image, mixed, person_color

AnyPose = TypeVar("AnyPose", bound=Pose)

_HIDDEN = 1  # the annotation label of a joint that is there but out of sight
_WHITE: Color = (255, 255, 255)
_FAINTEST, _SURE = 0.4, 0.5  # the opacity of joints without confidence, and the score from which on one is opaque
_LEVELS = 5  # of opacity
_MIDDLE_SHADE, _RIGHT_SHADE = 0.2, 0.48  # how much ink goes into the colors of the middle and the right

# refinement gives every missing joint a place, however unlikely; visualizations leave those out
MIN_DRAWN_SCORE = 0.1


def filter_poses(poses: Sequence[AnyPose], share: float = 0.4, least: float = 0.1) -> list[AnyPose]:
    """Return the poses worth drawing: scored at least ``share`` of the image's best and ``least``."""
    best = max((pose.score for pose in poses), default=0.0)
    return [pose for pose in poses if pose.score >= max(share * best, least)]


def draw_poses(
    image: Image,
    poses: Sequence[Pose] | NDArray[np.floating],
    schema: KeypointSchema,
    *,
    min_score: float = 0.0,
    person_colors: bool = True,
    boxes: bool = False,
    ids: Sequence[int] | None = None,
) -> Image:
    """Draw people on a copy of an image, large ones first, so that small ones stay in sight.

    Limbs and joints of a person's left are bright, those of the right darker. The lower a detected
    joint's score, the more the image shows through it and its limbs. Line widths follow the
    person's size and the image's. Joints at (0, 0) or at a place that is not finite are not
    drawn, nor are limbs that end in them.

    Args:
        image: (H, W, 3) uint8 BGR.
        poses: detections, or annotated people as (N, K, 3): x, y in image pixels, label (0 not
            drawn, 1 hidden: drawn hollow, 2 seen).
        schema: the joints, their limbs and sides.
        min_score: leave out joints of detections with a lower score; those without a score
            above 0 are never drawn.
        person_colors: one color a person, by the place in ``poses``; False: the schema's
            color of each joint.
        boxes: also draw the box around each person's joints.
        ids: numbers from 0 that choose the people's colors instead of their places, such as those of a tracker.
    """
    result = checked_image(image)
    people = [_person(entry, min_score, schema) for entry in poses]
    for index in sorted(range(len(people)), key=lambda i: -people[i].size):
        if people[index].shown.any():
            color = person_color(index if ids is None else ids[index]) if person_colors else None
            _draw_person(result, people[index], schema, _joint_colors(schema, color), boxes)
    return result


@dataclass(frozen=True)
class _Person:
    points: Points  # (K, 2) image pixels
    shown: NDArray[np.bool_]  # (K,)
    hidden: NDArray[np.bool_]  # (K,)
    alpha: NDArray[np.float64]  # (K,) opacity

    @property
    def size(self) -> float:
        """The diagonal of the box around the joints, in pixels."""
        return float(np.hypot(*np.ptp(self.points[self.shown], axis=0))) if self.shown.any() else 0.0


def _person(entry: Pose | NDArray[np.floating], min_score: float, schema: KeypointSchema) -> _Person:
    keypoints = np.asarray(entry.keypoints if isinstance(entry, Pose) else entry, np.float64)
    if keypoints.shape != (schema.num_joints, 3):
        raise ValueError(f"a person of '{schema.name}' is ({schema.num_joints}, 3) numbers, got {keypoints.shape}")
    points, value = keypoints[:, :2], keypoints[:, 2]
    shown = (value > 0) & points.any(axis=1) & np.isfinite(points).all(axis=1)
    points = np.where(shown[:, None], points, 0)
    if isinstance(entry, Pose):
        sureness = np.rint(np.clip(np.where(shown, value, 0) / _SURE, 0, 1) * (_LEVELS - 1)) / (_LEVELS - 1)
        alpha = _FAINTEST + (1 - _FAINTEST) * sureness
        return _Person(points, shown & (value >= min_score), np.zeros_like(shown), alpha)
    return _Person(points, shown, value == _HIDDEN, np.ones(len(points)))


def _joint_colors(schema: KeypointSchema, color: Color | None) -> list[Color]:
    """Return a color for each joint: the schema's, or shades of the person's ``color``."""
    if color is None:
        return [(blue, green, red) for red, green, blue in schema.colors]
    colors = [mixed(color, INK, _MIDDLE_SHADE)] * schema.num_joints
    for left, right in schema.flip_pairs:
        colors[left], colors[right] = color, mixed(color, INK, _RIGHT_SHADE)
    return colors


@dataclass(frozen=True)
class _Pen:
    """Sizes in pixels: the width of a limb, the radius of a joint, the outline around both."""

    width: float
    radius: float
    outline: float

    @property
    def reach(self) -> float:
        """How far from a joint its drawing goes."""
        return 1.4 * self.radius + self.outline + 2


def _pen(size: float, image: Image) -> _Pen:
    longest = max(image.shape[:2])
    finest = max(1.25, 0.0006 * longest)
    width = float(np.clip(0.0145 * size, finest, max(0.008 * longest, finest)))
    # discs come in as a person grows: on the smallest, the limbs alone say more
    growth = float(np.clip(size / (50 * finest), 0, 1))
    return _Pen(width, width * (0.55 + 0.55 * growth), float(np.clip(0.3 * width, 0.35, 3)))


def _joint_radii(person: _Person, pen: _Pen) -> NDArray[np.float64]:
    """Return (K,) radii: the pen's, less where joints crowd, as on a face; hollow joints' are those of their rings."""
    gaps = np.hypot(*(person.points[:, None] - person.points[None]).transpose(2, 0, 1))  # (K, K)
    gaps[:, ~person.shown] = np.inf
    np.fill_diagonal(gaps, np.inf)
    radii = np.clip(0.35 * gaps.min(axis=1), 0.55 * pen.width, pen.radius)
    # a ring is large enough to leave a hole inside the stroke
    return np.where(person.hidden, np.maximum(1.2 * radii, 0.55 * pen.width + 1.0), radii)


def _draw_person(image: Image, person: _Person, schema: KeypointSchema, colors: list[Color], boxes: bool) -> None:
    pen = _pen(person.size, image)
    points, margin = person.points[person.shown], 2 * pen.reach
    low, high = points.min(axis=0) - margin, points.max(axis=0) + margin
    corners = np.array([low, [high[0], low[1]], high, [low[0], high[1]]])  # of a box with a margin around the marks
    # wide lines look smooth without sub-pixels, and a large canvas would take much memory
    canvas = Canvas(image, corners, pen.reach, 4 if pen.width < 4 else 2 if pen.width < 8 else 1)
    if canvas.empty:
        return
    if boxes:
        _draw_box(canvas, corners, colors[schema.flip_pairs[0][0] if schema.flip_pairs else 0], pen)
    radii, limbs = _joint_radii(person, pen), _limbs(person, schema)
    # faint ones first, so that sure ones are seen whole
    for alpha in np.unique(person.alpha[person.shown]):
        with canvas.transparent(float(alpha)):
            _draw_limbs(
                canvas, person, [limb for limb in limbs if person.alpha[list(limb)].min() == alpha], colors, pen, radii
            )
            _draw_joints(canvas, person, np.flatnonzero(person.shown & (person.alpha == alpha)), colors, pen, radii)
    canvas.paste()


def _limbs(person: _Person, schema: KeypointSchema) -> list[tuple[int, int]]:
    return [(first, second) for first, second in schema.skeleton if person.shown[first] and person.shown[second]]


def _draw_box(canvas: Canvas, corners: Points, color: Color, pen: _Pen) -> None:
    width = 0.5 * pen.width + 0.3
    for shade, stroke in ((INK, width + 2 * pen.outline), (color, width)):
        for start, end in zip(corners, np.roll(corners, -1, axis=0)):
            canvas.line(start, end, shade, stroke)


def _draw_limbs(
    canvas: Canvas,
    person: _Person,
    chosen: list[tuple[int, int]],
    colors: list[Color],
    pen: _Pen,
    radii: NDArray[np.float64],
) -> None:
    # a hollow joint shows the image inside, so limbs stop at its ring
    rings = np.where(person.hidden, radii, 0.0)
    limbs = []
    for first, second in chosen:
        start, end = person.points[first], person.points[second]
        length = float(np.hypot(*(end - start)))
        if length > rings[first] + rings[second]:
            along = (end - start) / length
            width = float(np.clip(0.25 * length, min(1.0, pen.width), pen.width))
            color = mixed(colors[first], colors[second], 0.5)
            limbs.append((start + rings[first] * along, end - rings[second] * along, color, width))
    # all outlines come first, so that a person's limbs join without seams
    for start, end, _, width in limbs:
        canvas.line(start, end, INK, width + 2 * pen.outline)
    for limb in limbs:
        canvas.line(*limb)


def _draw_joints(
    canvas: Canvas,
    person: _Person,
    chosen: NDArray[np.intp],
    colors: list[Color],
    pen: _Pen,
    radii: NDArray[np.float64],
) -> None:
    stroke = 0.5 * pen.width
    for joint in chosen:
        point, color, radius = person.points[joint], colors[joint], radii[joint]
        if person.hidden[joint]:
            canvas.ring(point, INK, radius, stroke + 1.6 * pen.outline)
            canvas.ring(point, color, radius, stroke)
        else:
            canvas.disc(point, INK, radius + pen.outline)
            canvas.disc(point, mixed(color, _WHITE, 0.3), radius)
