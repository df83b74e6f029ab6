"""People drawn as stick figures: predictions and annotations."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.schema import KeypointSchema, Pose
from coupled_embedding.visualize.canvas import Canvas, region_around
from coupled_embedding.visualize.palette import INK, Color, Image, checked_image, mixed, person_color

_HIDDEN = 1  # the annotation label of a joint that is there but out of sight
_WHITE: Color = (255, 255, 255)
_MIDDLE_SHADE, _RIGHT_SHADE = 0.2, 0.48  # how much ink goes into the colours of the middle and the right


def draw_poses(
    image: Image,
    poses: Sequence[Pose] | NDArray[np.floating],
    schema: KeypointSchema,
    *,
    min_score: float = 0.0,
    person_colors: bool = True,
    boxes: bool = False,
) -> Image:
    """Draw people on a copy of a photo, large ones first, so that small ones stay in sight.

    Limbs and joints of a person's left are bright, those of the right darker. Line widths follow
    the person's size and the photo's. Joints at (0, 0) or at a place that is not finite are not
    drawn, nor are limbs that end in them.

    Args:
        image: (H, W, 3) uint8 BGR.
        poses: found people, or annotated ones as (N, K, 3): x, y in photo pixels, label (0 not
            drawn, 1 hidden: drawn hollow, 2 seen).
        schema: the joints, their limbs and sides.
        min_score: leave out joints of found people with a lower score; those without a score
            above 0 are never drawn.
        person_colors: one colour a person, by the place in ``poses``; False: the schema's
            colour of each joint.
        boxes: also draw the box around each person's joints.
    """
    result = checked_image(image)
    people = [_person(entry, min_score, schema) for entry in poses]
    for index in sorted(range(len(people)), key=lambda i: -people[i].size):
        if people[index].shown.any():
            color = person_color(index) if person_colors else None
            _draw_person(result, people[index], schema, _joint_colors(schema, color), boxes)
    return result


@dataclass(frozen=True)
class _Person:
    points: NDArray[np.float64]  # (K, 2) photo pixels
    shown: NDArray[np.bool_]  # (K,)
    hidden: NDArray[np.bool_]  # (K,)

    @property
    def size(self) -> float:
        """The diagonal of the box around the joints, in pixels."""
        if not self.shown.any():
            return 0.0
        return float(np.hypot(*np.ptp(self.points[self.shown], axis=0)))


def _person(entry: Pose | NDArray[np.floating], min_score: float, schema: KeypointSchema) -> _Person:
    keypoints = np.asarray(entry.keypoints if isinstance(entry, Pose) else entry, np.float64)
    if keypoints.shape != (schema.num_joints, 3):
        raise ValueError(f"a person of '{schema.name}' is ({schema.num_joints}, 3) numbers, got {keypoints.shape}")
    points, value = keypoints[:, :2], keypoints[:, 2]
    shown = (value > 0) & points.any(axis=1) & np.isfinite(points).all(axis=1)
    points = np.where(shown[:, None], points, 0)
    if isinstance(entry, Pose):
        return _Person(points, shown & (value >= min_score), np.zeros_like(shown))
    return _Person(points, shown, value == _HIDDEN)


def _joint_colors(schema: KeypointSchema, color: Color | None) -> list[Color]:
    """Return a colour for each joint: the schema's, or shades of the person's ``color``."""
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

    @property
    def fineness(self) -> int:
        # wide lines look smooth without sub-pixels, and a large canvas would take much memory
        return 4 if self.width < 4 else 2 if self.width < 8 else 1


def _pen(size: float, image: Image) -> _Pen:
    longest = max(image.shape[:2])
    finest = max(1.25, 0.0006 * longest)
    width = float(np.clip(0.0145 * size, finest, max(0.008 * longest, finest)))
    # discs come in as a person grows: on the smallest, the limbs alone say more
    growth = float(np.clip(size / (50 * finest), 0, 1))
    return _Pen(width, width * (0.55 + 0.55 * growth), float(np.clip(0.3 * width, 0.35, 3)))


def _joint_radii(person: _Person, pen: _Pen) -> NDArray[np.float64]:
    """Return (K,) radii: the pen's, less where joints crowd, as on a face."""
    gaps = np.hypot(*(person.points[:, None] - person.points[None]).transpose(2, 0, 1))  # (K, K)
    gaps[:, ~person.shown] = np.inf
    np.fill_diagonal(gaps, np.inf)
    return np.clip(0.35 * gaps.min(axis=1), 0.55 * pen.width, pen.radius)


def _draw_person(image: Image, person: _Person, schema: KeypointSchema, colors: list[Color], boxes: bool) -> None:
    pen = _pen(person.size, image)
    corners = _box_corners(person, pen)
    region = region_around(corners, pen.reach, image)
    if region.empty:
        return
    with Canvas(image, region, pen.fineness) as canvas:
        if boxes:
            _draw_box(canvas, corners, colors[schema.flip_pairs[0][0] if schema.flip_pairs else 0], pen)
        _draw_limbs(canvas, person, schema, colors, pen)
        _draw_joints(canvas, person, colors, pen)


def _box_corners(person: _Person, pen: _Pen) -> NDArray[np.float64]:
    """Return the (4, 2) corners of a box that leaves the joints' marks some air."""
    points, margin = person.points[person.shown], 2 * pen.reach
    left, top = points.min(axis=0) - margin
    right, bottom = points.max(axis=0) + margin
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def _draw_box(canvas: Canvas, corners: NDArray[np.float64], color: Color, pen: _Pen) -> None:
    width = 0.5 * pen.width + 0.3
    for shade, stroke in ((INK, width + 2 * pen.outline), (color, width)):
        for start, end in zip(corners, np.roll(corners, -1, axis=0)):
            canvas.line(start, end, shade, stroke)


@dataclass(frozen=True)
class _Limb:
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    color: Color
    width: float


def _limbs(person: _Person, schema: KeypointSchema, colors: list[Color], pen: _Pen) -> list[_Limb]:
    radii = np.where(person.hidden, _hollow_radius(_joint_radii(person, pen), pen), 0.0)
    limbs = []
    for first, second in schema.skeleton:
        start, end = person.points[first], person.points[second]
        length = float(np.hypot(*(end - start)))
        # a hollow joint shows the photo inside, so limbs stop at its ring
        if person.shown[first] and person.shown[second] and length > radii[first] + radii[second]:
            along = (end - start) / length
            width = float(np.clip(0.25 * length, min(1.0, pen.width), pen.width))
            color = mixed(colors[first], colors[second], 0.5)
            limbs.append(_Limb(start + radii[first] * along, end - radii[second] * along, color, width))
    return limbs


def _draw_limbs(canvas: Canvas, person: _Person, schema: KeypointSchema, colors: list[Color], pen: _Pen) -> None:
    limbs = _limbs(person, schema, colors, pen)
    # all outlines come first, so that a person's limbs join without seams
    for limb in limbs:
        canvas.line(limb.start, limb.end, INK, limb.width + 2 * pen.outline)
    for limb in limbs:
        canvas.line(limb.start, limb.end, limb.color, limb.width)


def _hollow_radius(radii: NDArray[np.float64], pen: _Pen) -> NDArray[np.float64]:
    # large enough to leave a hole inside the stroke
    return np.maximum(1.2 * radii, 0.55 * pen.width + 1.0)


def _draw_joints(canvas: Canvas, person: _Person, colors: list[Color], pen: _Pen) -> None:
    radii = _joint_radii(person, pen)
    rings = _hollow_radius(radii, pen)
    stroke = 0.5 * pen.width
    for joint in np.flatnonzero(person.shown):
        point, color = person.points[joint], colors[joint]
        if person.hidden[joint]:
            canvas.ring(point, INK, rings[joint], stroke + 1.6 * pen.outline)
            canvas.ring(point, color, rings[joint], stroke)
        else:
            canvas.disc(point, INK, radii[joint] + pen.outline)
            canvas.disc(point, mixed(color, _WHITE, 0.3), radii[joint])
