"""Places: a floor in perspective, a backdrop and a sky, painted at image resolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from synthetic_crowd.camera import Camera
from synthetic_crowd.floor import floor_tile, lay_floor, paint_lines


@dataclass(frozen=True)
class Place:
    """A kind of place. Colors are RGB; floors names painters of tiles; sunny: how strong the sun is there."""

    name: str
    floors: tuple[str, ...]
    floor_colors: tuple[tuple[int, int, int], ...]
    outdoors: bool
    paint: Callable[[_Backdrop], None]


class _Backdrop:
    """An image under construction with world rectangles and discs at a given distance."""

    def __init__(self, image: np.ndarray, camera: Camera, distance: float, rng: np.random.Generator) -> None:
        self.image, self.camera, self.distance, self.rng = image, camera, distance, rng
        half = distance * camera.width / camera.focal / 2
        self.left, self.right = -half * 1.15, half * 1.15

    def rectangles(
        self, boxes: np.ndarray | Sequence[tuple[float, ...]], colors: np.ndarray, nearer: float = 0.0
    ) -> None:
        """Fill boxes (N, 4) of x0, y0, x1, y1 meters with RGB colors (N, 3) or (3,)."""
        corners = np.asarray(boxes, np.float32).reshape(-1, 4)
        if not len(corners):
            return
        world = np.full((len(corners), 4, 3), -(self.distance - nearer), np.float32)
        world[..., 0], world[..., 1] = corners[:, [0, 2, 2, 0]], corners[:, [1, 1, 3, 3]]
        screen = np.clip(self.camera.project(world)[0], -4000, 4000)
        colors = np.broadcast_to(colors, (len(corners), 3))
        for polygon, color in zip(np.rint(screen * 16).astype(np.int32), colors[:, ::-1].tolist()):
            cv2.fillConvexPoly(self.image, polygon, color, cv2.LINE_AA, 4)

    def discs(self, centers: np.ndarray, radii: np.ndarray, colors: np.ndarray, nearer: float = 0.0) -> None:
        """Fill discs at (N, 2) x, y meters of (N,) meters radius with RGB colors (N, 3)."""
        world = np.concatenate([centers, np.full((len(centers), 1), -(self.distance - nearer))], 1)
        screen, depth = self.camera.project(world.astype(np.float32))
        size = np.maximum(radii * self.camera.focal / depth, 1)
        for (x, y), r, color in zip(np.rint(screen).astype(int).tolist(), size.astype(int).tolist(), colors):
            cv2.circle(self.image, (x, y), r, color[::-1].tolist(), -1, cv2.LINE_AA)


def _vary(rng: np.random.Generator, color: tuple, spread: float = 8) -> np.ndarray:
    """An RGB color near the given one, brighter or darker as a whole more than in hue."""
    varied = np.array(color, np.float32) * rng.uniform(0.82, 1.15) + rng.normal(0, spread, 3)
    return np.minimum(np.maximum(varied, 0), 255)


def _choose(rng: np.random.Generator, colors: tuple, spread: float = 8) -> np.ndarray:
    return _vary(rng, colors[rng.integers(len(colors))], spread)


_WALLS = (
    (176, 160, 140),
    (150, 96, 78),
    (198, 190, 176),
    (120, 124, 130),
    (208, 186, 150),
    (112, 84, 72),
    (226, 222, 212),
)
_GREENS = ((58, 88, 42), (78, 108, 50), (44, 72, 40), (98, 118, 60), (110, 112, 52))
_BOLD = ((168, 52, 46), (44, 78, 132), (232, 196, 90), (54, 110, 84), (230, 228, 220), (60, 62, 70), (214, 120, 60))


def _sky(b: _Backdrop) -> None:
    """A gradient from the zenith to the horizon, with clouds."""
    top, low = (
        ((86, 134, 196), (196, 214, 228)), ((150, 164, 178), (208, 212, 214)),
        ((110, 130, 164), (238, 206, 170)), ((186, 192, 198), (224, 224, 222)),
    )[b.rng.integers(4)]  # fmt: skip
    height, width = (side // 4 for side in b.image.shape[:2])  # a sky is smooth
    share = np.clip(np.arange(height) * 4 / max(b.camera.horizon(), 1), 0, 1)[:, None]
    sky = (np.array(top) * (1 - share) + np.array(low) * share)[:, None, ::-1]
    cloud = cv2.resize(b.rng.random((4, 6), np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    cloud = np.clip((cloud - 0.5) * 1.3, 0, 0.6)[..., None]
    small = (sky * (1 - cloud) + 236 * cloud).astype(np.uint8)
    cv2.resize(small, b.image.shape[1::-1], b.image, interpolation=cv2.INTER_LINEAR)


def _building(b: _Backdrop, x0: float, x1: float) -> None:
    """A facade with rows of windows and a shop below."""
    wall = _choose(b.rng, _WALLS)
    top = b.rng.uniform(6, 16)
    b.rectangles([(x0, -1, x1, top)], wall)
    glass = _choose(b.rng, ((70, 82, 94), (48, 54, 62), (134, 152, 166), (206, 190, 146)))
    step, storey = b.rng.uniform(1.7, 3.2), b.rng.uniform(2.8, 3.6)
    w, h = step * b.rng.uniform(0.35, 0.7), storey * b.rng.uniform(0.4, 0.65)
    xs, ys = np.meshgrid(np.arange(x0 + 0.6, x1 - w, step), np.arange(4.0, min(top, 11) - h, storey))
    corner = np.stack([xs.ravel(), ys.ravel()], 1)
    panes = np.concatenate([corner, corner + np.array((w, h))], 1)
    b.rectangles(panes + np.array((-0.12, -0.18, 0.12, 0.12)), np.clip(wall * 1.15, 0, 255))
    b.rectangles(panes, glass * b.rng.uniform(0.75, 1.25, (len(panes), 1)).clip(0, 1.3))
    _shop(b, x0, x1, wall)


def _shop(b: _Backdrop, x0: float, x1: float, wall: np.ndarray) -> None:
    """Shop windows, a door and perhaps an awning at street level."""
    b.rectangles([(x0, -1, x1, 0.5)], wall * 0.72)
    middle = b.rng.uniform(x0 + 0.5, max(x1 - 1.8, x0 + 0.6))
    b.rectangles([(x0 + 0.5, 0.6, x1 - 0.5, 2.7)], _choose(b.rng, ((58, 66, 74), (92, 92, 88), (180, 166, 130))))
    b.rectangles([(middle, 0, middle + 1.2, 2.6)], _choose(b.rng, ((92, 60, 42), (44, 52, 58), (120, 44, 40))))
    if b.rng.random() < 0.6:
        b.rectangles([(x0 + 0.3, 2.7, x1 - 0.3, 3.4)], _choose(b.rng, _BOLD))


def _street(b: _Backdrop) -> None:
    _sky(b)
    x = b.left - b.rng.uniform(0, 4)
    while x < b.right:
        width = b.rng.uniform(5, 12)
        _building(b, x, x + width)
        x += width + (b.rng.uniform(1, 4) if b.rng.random() < 0.2 else 0)
    if b.rng.random() < 0.5:
        _trees(b, int(b.rng.integers(1, 4)), 3.0)


def _trees(b: _Backdrop, count: int, nearer: float) -> None:
    """Trunks and crowns made of leaves' clumps, darker below."""
    for _ in range(count):
        x, crown, size = b.rng.uniform(b.left, b.right), b.rng.uniform(2.6, 5), b.rng.uniform(0.9, 2.1)
        b.rectangles([(x - 0.14, -0.5, x + 0.14, crown)], _vary(b.rng, (74, 58, 44)), nearer)
        green = _choose(b.rng, _GREENS)
        spots = b.rng.normal(0, 1, (18, 2)) * (size * 0.55, size * 0.45)
        spots = spots[np.argsort(spots[:, 1])]
        shade = (0.72 + 0.5 * np.linspace(0, 1, 18))[:, None] * b.rng.uniform(0.88, 1.12, (18, 1))
        b.discs(
            spots + np.array((x, crown)), b.rng.uniform(0.25, 0.55, 18) * size, np.clip(green * shade, 0, 255), nearer
        )


def _park(b: _Backdrop) -> None:
    _sky(b)
    hill = _choose(b.rng, _GREENS)
    for layer in range(2):
        xs = np.linspace(b.left * 1.3, b.right * 1.3, 14)
        tops = np.abs(b.rng.normal(2.2 - layer, 1.0, 13)) + 0.6
        boxes = np.stack([xs[:-1], np.full(13, -2.0), xs[1:], tops], 1)
        b.rectangles(boxes, hill * (0.8 + 0.15 * layer))
        spots = np.stack([(xs[:-1] + xs[1:]) / 2, tops], 1)
        b.discs(spots, np.full(13, (xs[1] - xs[0]) * 0.62), np.repeat((hill * (0.8 + 0.15 * layer))[None], 13, 0))
    _trees(b, int(b.rng.integers(2, 7)), 2.0)


def _stadium(b: _Backdrop) -> None:
    """A grandstand full of blurred specks above advertising boards."""
    _sky(b)
    seats = _choose(b.rng, ((60, 66, 78), (96, 42, 44), (44, 62, 100), (110, 112, 112)))
    b.rectangles([(b.left * 2, 0, b.right * 2, 14)], seats)
    height, width = b.image.shape[:2]
    rows, columns = max(height // 5, 4), max(width // 3, 4)
    clothes = b.rng.uniform(0, 190, (rows, columns, 1)) + b.rng.normal(0, 22, (rows, columns, 3))
    fans = seats[::-1] * 0.5 + np.where(b.rng.random((rows, columns, 1)) > 0.35, clothes, 30)
    stand = cv2.resize(np.clip(fans, 0, 235).astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)
    mask = np.zeros((height, width), np.uint8)
    keep, b.image = b.image, mask
    b.rectangles([(b.left * 2, 1.2, b.right * 2, 9)], np.array([255.0, 255, 255]))
    b.image = keep
    b.image[mask > 0] = (stand * 0.75 + 20)[mask > 0]
    edges = np.arange(b.left - 1, b.right + 4, b.rng.uniform(2.5, 5))
    boards = np.stack([edges[:-1], np.zeros(len(edges) - 1), edges[1:] - 0.06, np.full(len(edges) - 1, 1.0)], 1)
    b.rectangles(boards, np.array([_choose(b.rng, _BOLD) for _ in boards]))
    words = boards * 1.0
    words[:, 0], words[:, 2], words[:, 1], words[:, 3] = boards[:, 0] + 0.5, boards[:, 2] - 0.6, 0.35, 0.7
    b.rectangles(words, _choose(b.rng, ((230, 230, 226), (40, 42, 48))))


def _hall(b: _Backdrop) -> None:
    """A wall with panels, windows or doors, posters, and a ceiling with lamps."""
    wall = _choose(b.rng, ((206, 198, 182), (176, 184, 186), (222, 216, 204), (170, 150, 128), (140, 156, 160)))
    b.image[:] = np.clip(wall * 0.9, 0, 255)[::-1]
    b.rectangles([(b.left * 2, -1, b.right * 2, 4.2)], wall)
    b.rectangles(
        [(b.left * 2, -1, b.right * 2, b.rng.uniform(0.8, 1.4))], _choose(b.rng, (*_WALLS, (96, 70, 48), (70, 88, 110)))
    )
    b.rectangles([(b.left * 2, -0.2, b.right * 2, 0.12)], wall * 0.5)
    x = b.left
    while x < b.right:
        w = b.rng.uniform(0.7, 2.2)
        kind = b.rng.integers(4)
        if kind == 0:
            b.rectangles([(x, 0, x + 1.0, 2.1)], _choose(b.rng, ((110, 78, 52), (84, 92, 98), (198, 194, 186))))
        elif kind == 1:
            b.rectangles([(x, 1.5, x + w, 3.2)], np.array([236.0, 240, 242]))
            b.rectangles(
                [(x + 0.07, 1.57, x + w / 2 - 0.03, 3.13), (x + w / 2 + 0.03, 1.57, x + w - 0.07, 3.13)],
                _choose(b.rng, ((190, 208, 220), (120, 140, 156))),
            )
        elif kind == 2:
            b.rectangles([(x, 1.4, x + w * 0.6, 1.4 + b.rng.uniform(0.5, 1.2))], _choose(b.rng, _BOLD))
        x += w + b.rng.uniform(0.3, 2)
    b.rectangles([(b.left * 2, 4.2, b.right * 2, 9)], np.clip(wall * 1.08, 0, 250))
    lamps = np.arange(b.left, b.right, b.rng.uniform(2, 4))
    b.rectangles(
        np.stack([lamps, np.full(len(lamps), 4.4), lamps + 1.2, np.full(len(lamps), 4.6)], 1),
        np.array([255.0, 250, 236]),
    )


def _beach(b: _Backdrop) -> None:
    _sky(b)
    b.rectangles([(b.left * 3, -3, b.right * 3, b.camera.height * 0.97)], _vary(b.rng, (70, 122, 144)))
    b.rectangles([(b.left * 3, -3, b.right * 3, b.camera.height * 0.5)], _vary(b.rng, (96, 152, 164)))
    for _ in range(3):
        y = b.rng.uniform(-0.2, 0.4) * b.camera.height
        b.rectangles([(b.left * 3, y, b.right * 3, y + 0.08)], np.array([222.0, 230, 230]))
    for _ in range(int(b.rng.integers(0, 4))):
        x, color = b.rng.uniform(b.left, b.right), _choose(b.rng, _BOLD)
        b.rectangles([(x - 0.05, -0.3, x + 0.05, 2.2)], np.array([220.0, 214, 200]), 4)
        b.rectangles([(x - 1.3, 1.8, x + 1.3, 2.1), (x - 0.8, 2.1, x + 0.8, 2.35)], color, 4)


PLACES = (
    Place(
        "street", ("paving", "asphalt", "cobbles"), ((128, 126, 122), (104, 104, 106), (158, 148, 134)), True, _street
    ),
    Place("park", ("grass", "grass", "asphalt"), ((96, 116, 58), (80, 104, 52), (124, 126, 70)), True, _park),
    Place("stadium", ("pitch", "pitch", "track"), ((70, 112, 56), (86, 124, 60)), True, _stadium),
    Place(
        "hall",
        ("planks", "paving", "carpet"),
        ((172, 132, 90), (190, 176, 152), (128, 118, 112), (140, 92, 62)),
        False,
        _hall,
    ),
    Place("beach", ("sand",), ((214, 194, 152), (200, 178, 138)), True, _beach),
)


def paint_background(place: Place, camera: Camera, distance: float, rng: np.random.Generator) -> np.ndarray:
    """The empty place as uint8 BGR (height, width, 3): backdrop `distance` meters away, floor before it."""
    image = np.zeros((camera.image_height, camera.width, 3), np.uint8)
    place.paint(_Backdrop(image, camera, distance, rng))
    kind = str(rng.choice(place.floors))
    colors = place.floor_colors if not (kind == "asphalt" and place.name == "park") else ((124, 118, 108),)
    color = np.array((166.0, 84, 66)) if kind == "track" else _choose(rng, colors, 5)
    heading = rng.uniform(-0.2, 0.2) if kind in ("pitch", "track") else rng.uniform(-0.8, 0.8)
    lay_floor(image, camera, floor_tile(kind, rng), color, distance, heading)
    if kind in ("pitch", "asphalt") or (place.name == "hall" and rng.random() < 0.4):
        paint_lines(image, camera, rng, distance)
    blur = rng.uniform(0.3, 1.6) * camera.width / 192
    grime = cv2.resize(
        rng.random((7, 7), np.float32), (camera.width, camera.image_height), interpolation=cv2.INTER_CUBIC
    )
    uneven = cv2.merge([np.clip(210 + 42 * grime, 0, 255).astype(np.uint8)] * 3)
    return cv2.multiply(cv2.GaussianBlur(image, (0, 0), blur), uneven, scale=1 / 232)
