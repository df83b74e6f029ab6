"""Looks: skin, hair, faces and clothes, drawn at random and painted on a texture per person."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from synthetic_crowd.body import (
    FIRST_RING,
    OPTIONAL,
    PART,
    PARTS,
    TEXELS_PER_RING,
    TEXTURE_ROWS,
    texture_row,
)

TEXTURE_COLUMNS = 48  # around a tube; the front of the body is column 24
_FRONT = TEXTURE_COLUMNS // 2

_RGB_SKIN = (
    (244, 214, 190),
    (230, 188, 155),
    (214, 164, 128),
    (186, 132, 96),
    (150, 100, 70),
    (112, 74, 52),
    (80, 54, 40),
)
_RGB_HAIR = ((28, 24, 22), (52, 36, 28), (84, 56, 36), (130, 88, 50), (196, 158, 98), (150, 68, 36), (170, 168, 164))
_RGB_TOPS = (
    (238, 238, 234), (34, 36, 42), (120, 124, 130), (36, 52, 92), (72, 104, 150), (150, 182, 214), (150, 36, 40),
    (204, 62, 52), (92, 34, 46), (70, 84, 54), (44, 92, 74), (56, 132, 132), (222, 178, 66), (224, 128, 58),
    (226, 168, 172), (146, 112, 158), (196, 172, 140), (112, 78, 56), (238, 222, 190), (88, 150, 96),
)  # fmt: skip
_RGB_BOTTOMS = (
    (42, 54, 86), (62, 84, 124), (104, 128, 160), (30, 32, 38), (54, 56, 62), (98, 98, 100), (150, 132, 104),
    (186, 170, 138), (76, 76, 56), (92, 62, 46), (226, 224, 218), (34, 44, 60), (110, 40, 46),
)  # fmt: skip
_RGB_SHOES = (
    (28, 26, 26),
    (236, 236, 234),
    (92, 62, 42),
    (120, 120, 124),
    (168, 44, 44),
    (46, 66, 120),
    (190, 180, 60),
)
_PATTERNS = ("plain", "hoops", "pinstripes", "checks", "block", "print", "jacket")
_PATTERN_SHARES = (0.5, 0.13, 0.05, 0.08, 0.07, 0.07, 0.1)


@dataclass(frozen=True)
class Kit:
    """What a team shares: RGB colors, each (3,)."""

    top: np.ndarray
    bottom: np.ndarray
    pattern: str


@dataclass(frozen=True)
class Outfit:
    """How one person looks. Colors are RGB (3,) float; lengths count bones (1 ends at the elbow or knee)."""

    skin: np.ndarray
    hair: np.ndarray
    top: np.ndarray
    accent: np.ndarray
    bottom: np.ndarray
    shoes: np.ndarray
    hat: np.ndarray
    pattern: str
    sleeve: float
    trouser: float
    socks: float
    hair_style: str
    bearded: bool
    wears: tuple[str, ...]  # among body.OPTIONAL


def _pick(rng: np.random.Generator, palette: tuple, spread: float = 9.0) -> np.ndarray:
    """A color of the palette, slightly different each time."""
    color = np.array(palette[rng.integers(len(palette))], np.float32)
    varied = color * rng.uniform(0.85, 1.1) + rng.normal(0, spread, 3)
    return np.minimum(np.maximum(varied, 8), 250).astype(np.float32)


def _weighted(rng: np.random.Generator, options: tuple, shares: tuple[float, ...]) -> Any:
    """One of the options; much faster than rng.choice for a handful."""
    place = rng.random() * sum(shares)
    for option, share in zip(options, shares, strict=True):
        place -= share
        if place < 0:
            return option
    return options[-1]


def sample_kit(rng: np.random.Generator) -> Kit:
    """Colors for a sports team."""
    pattern = str(rng.choice(("plain", "hoops", "pinstripes", "block")))
    return Kit(_pick(rng, _RGB_TOPS, 3), _pick(rng, (*_RGB_TOPS[:4], *_RGB_BOTTOMS[:4]), 3), pattern)


def sample_outfit(rng: np.random.Generator, curve: float, kit: Kit | None = None) -> Outfit:
    """Dress one person; `curve` in [0, 1] makes long hair and skirts likelier."""
    feminine = rng.random() < 0.15 + 0.75 * curve
    styles = (0.2, 0.58, 0.2, 0.02) if feminine else (0.8, 0.05, 0.03, 0.12)
    style = _weighted(rng, ("short", "long", "bun", "bald"), styles)
    wears = {"long": ["back_hair"], "bun": ["bun"]}.get(style, [])
    trouser = _weighted(rng, (1.95, 1.0, 0.55, 1.5), (0.62, 0.17, 0.14, 0.07))
    top, bottom = _pick(rng, _RGB_TOPS), _pick(rng, _RGB_BOTTOMS)
    if kit is None and feminine and rng.random() < 0.35:
        wears.append("skirt")
        trouser = 0.3
        bottom = top if rng.random() < 0.5 else _pick(rng, _RGB_TOPS)
    if rng.random() < 0.14:
        wears.append("hat")
    pattern = _weighted(rng, _PATTERNS, _PATTERN_SHARES)
    sleeve = _weighted(rng, (0.02, 0.5, 1.2, 1.93), (0.14, 0.42, 0.06, 0.38))
    if kit is not None:
        top, bottom, pattern, sleeve, trouser = kit.top, kit.bottom, kit.pattern, 0.55, 0.75
    return Outfit(
        skin=_pick(rng, _RGB_SKIN, 5),
        hair=_pick(rng, _RGB_HAIR, 4),
        top=top,
        accent=_pick(rng, _RGB_TOPS),
        bottom=bottom,
        shoes=_pick(rng, _RGB_SHOES),
        hat=_pick(rng, _RGB_TOPS),
        pattern=pattern,
        sleeve=sleeve,
        trouser=trouser,
        socks=1.35 if kit is not None else (1.93 if rng.random() < 0.5 else 1.75),
        hair_style=style,
        bearded=not feminine and rng.random() < 0.25,
        wears=tuple(wears),
    )


@dataclass(frozen=True)
class _Rows:
    """Texture rows of the parts: for each, its slice and where along the part each row lies."""

    slices: dict[str, slice]
    along: dict[str, np.ndarray]


@lru_cache(maxsize=1)
def _rows() -> _Rows:
    """Row ranges of all parts (a pure function of constants)."""
    slices, along = {}, {}
    for part in PARTS:
        first = FIRST_RING[part.name] * TEXELS_PER_RING
        slices[part.name] = slice(first, first + len(part.rings) * TEXELS_PER_RING)
        rings = [ring[0] for ring in part.rings]
        at = np.arange(len(rings) * TEXELS_PER_RING) / TEXELS_PER_RING
        along[part.name] = np.interp(at, np.arange(len(rings)), rings).astype(np.float32)
    return _Rows(slices, along)


def paint(outfit: Outfit, rng: np.random.Generator) -> np.ndarray:
    """The person's texture, (TEXTURE_ROWS, TEXTURE_COLUMNS + 1, 3) uint8 BGR; the last column repeats the first."""
    rows = _rows()
    plain = np.empty((TEXTURE_ROWS, 1, 3), np.uint8)
    plain[:] = outfit.skin
    _paint_limbs(plain, outfit, rows)
    texture = np.repeat(plain, TEXTURE_COLUMNS + 1, 1)
    _paint_torso(texture, outfit, rows, rng)
    _paint_head(texture[rows.slices["head"]], outfit, rows.along["head"])
    for name, color in (("back_hair", outfit.hair), ("hat", outfit.hat), ("bun", outfit.hair)):
        if name in outfit.wears:
            texture[rows.slices[name]] = color
    if "skirt" in outfit.wears:
        folds = 0.92 + 0.08 * np.sin(np.arange(TEXTURE_COLUMNS + 1) * (2 * np.pi * 8 / TEXTURE_COLUMNS))
        texture[rows.slices["skirt"]] = folds[:, None] * outfit.bottom
    grain = np.empty_like(texture)  # folds of cloth, strands of hair: a little unevenness from row to row
    grain[:] = rng.integers(0, 14, (TEXTURE_ROWS, 1, 1), np.uint8)
    texture[:, -1] = texture[:, 0]
    return cv2.cvtColor(cv2.subtract(texture, grain), cv2.COLOR_RGB2BGR)


def _paint_limbs(texture: np.ndarray, outfit: Outfit, rows: _Rows) -> None:
    """Sleeves, trousers, socks and shoes, in place."""
    for side in ("left", "right"):
        for offset, arm, leg in ((0, "upper_arm", "thigh"), (1, "forearm", "shin")):
            arm_rows, leg_rows = texture[rows.slices[f"{side}_{arm}"]], texture[rows.slices[f"{side}_{leg}"]]
            arm_rows[rows.along[f"{side}_{arm}"] + offset < outfit.sleeve] = outfit.top
            reach = rows.along[f"{side}_{leg}"] + offset
            leg_rows[reach > outfit.socks] = (235, 235, 232)
            leg_rows[reach < outfit.trouser] = outfit.bottom
            hem = np.abs(reach - outfit.trouser) < 0.04
            leg_rows[hem] = outfit.bottom * 0.75
        texture[rows.slices[f"{side}_foot"]] = outfit.shoes


def _paint_torso(texture: np.ndarray, outfit: Outfit, rows: _Rows, rng: np.random.Generator) -> None:
    """Trousers below the waist, a patterned top above it, skin in the neckline, in place."""
    torso, along = texture[rows.slices["torso"]], rows.along["torso"]
    column = np.arange(TEXTURE_COLUMNS + 1)
    waist = rng.uniform(-0.3, 0.02)
    torso[:] = outfit.top
    _paint_pattern(torso, outfit, along, rng)
    torso[along < waist] = outfit.bottom
    torso[np.abs(along - waist) < 0.03] = outfit.bottom * 0.6
    depth = rng.uniform(0.0, 0.14)
    neckline = along[:, None] > 0.99 - depth * np.clip(1 - np.abs(column - _FRONT) / 6, 0, 1)
    torso[neckline] = outfit.skin
    if outfit.pattern in ("hoops", "block") and outfit.sleeve > 0.1:
        for side in ("left", "right"):
            arm = rows.along[f"{side}_upper_arm"]
            texture[rows.slices[f"{side}_upper_arm"]][(arm * 5 % 1 < 0.45) & (arm < outfit.sleeve)] = outfit.accent


def _paint_pattern(torso: np.ndarray, outfit: Outfit, along: np.ndarray, rng: np.random.Generator) -> None:
    """Stripes, checks, a print or an open jacket on the top, in place."""
    column = np.arange(TEXTURE_COLUMNS + 1)
    front = np.abs(column - _FRONT)
    if outfit.pattern == "hoops":
        torso[along * rng.uniform(4, 9) % 1 < 0.45] = outfit.accent
    elif outfit.pattern == "pinstripes":
        torso[:, column % 6 < 2] = outfit.accent
    elif outfit.pattern == "checks":
        torso[along * 6 % 1 < 0.4] = outfit.top * 0.72
        torso[:, column % 8 < 3] = torso[:, column % 8 < 3] * 0.75 + outfit.accent * 0.15
    elif outfit.pattern == "block":
        torso[along > rng.uniform(0.35, 0.6)] = outfit.accent
    elif outfit.pattern == "print":
        torso[((along > 0.45) & (along < 0.75))[:, None] & (front < rng.integers(4, 8))] = outfit.accent
    elif outfit.pattern == "jacket":
        torso[:, front < 3] = outfit.accent


def _paint_head(head: np.ndarray, outfit: Outfit, along: np.ndarray) -> None:
    """Hair around the skull and a face in front, in place; head is the texture's part (rows, columns, 3)."""
    column = np.arange(TEXTURE_COLUMNS + 1)
    front = np.clip(1 - np.abs(column - _FRONT) / (TEXTURE_COLUMNS / 2), 0, 1)  # 1 in front, 0 behind
    line = np.interp(front, (0.0, 0.42, 0.58, 0.72, 1.0), (0.24, 0.42, 0.56, 0.8, 0.83))
    _paint_face(head, outfit)
    if outfit.hair_style == "bald":
        hair = (along[:, None] > line) & (along[:, None] < 0.74) & (front < 0.6)
    else:
        hair = along[:, None] > line
    head[hair] = outfit.hair


def _paint_face(head: np.ndarray, outfit: Outfit) -> None:
    """Eyes, brows, nose, mouth, ears and a beard, in place."""

    def row(along: float) -> int:
        return round(texture_row("head", along)) - FIRST_RING["head"] * TEXELS_PER_RING

    def spot(along: float, center: int, half: int, color: np.ndarray, height: int = 1) -> None:
        head[row(along) : row(along) + height, _FRONT + center - half : _FRONT + center + half + 1] = color

    if outfit.bearded:
        head[row(0.28) : row(0.43), _FRONT - 10 : _FRONT + 11] = outfit.skin * 0.35 + outfit.hair * 0.6
    spot(0.385, 0, 2, outfit.skin * (0.78, 0.5, 0.5))
    spot(0.47, 0, 1, outfit.skin * 0.78)
    spot(0.5, 0, 0, np.minimum(outfit.skin * 1.1, 255), 3)
    for side in (-4, 4):
        spot(0.585, side, 1, np.array((232, 230, 226)), 2)
        spot(0.585, side, 0, np.array((42, 32, 28)), 2)
        spot(0.665, side, 2, outfit.hair * 0.6 + outfit.skin * 0.25)
        spot(0.52, side * 3, 1, outfit.skin * 0.82, 5)


def enabled_parts(outfits: list[Outfit]) -> np.ndarray:
    """(P, parts) bool: which tubes each person has."""
    enabled = np.ones((len(outfits), len(PARTS)), bool)
    for name in OPTIONAL:
        enabled[:, PART[name]] = [name in outfit.wears for outfit in outfits]
    return enabled
