"""Write a synthetic crowd whose people are where those of annotated images are."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from synthetic_crowd.annotated import Layout, read_layouts
from synthetic_crowd.fitting import place_people
from synthetic_crowd.scene import Scene, photograph
from synthetic_crowd.settings import MOST_SCENES, CrowdSettings
from synthetic_crowd.writer import GENERATOR_VERSION, check_arguments, read_info, split_seed, write_scenes

LAYOUTS = "synthetic crowd in the layouts of an annotation file"
LAYOUTS_VERSION = 1  # raise it whenever the same seed draws other people of the same generator version


def render_layout(layout: Layout, short_side: int, seed: int) -> Scene:
    """Render the people of an annotated image: the same pixels on every call, whatever came before.

    The image has the layout's aspect ratio, at most 2:1, with a shorter side of `short_side` pixels. Whoever can
    hardly be seen is left out, so there may be fewer people, and even none.

    Raises ValueError if short_side is not a whole number from 48 to 1024, or seed is negative.
    """
    check_short_side(short_side)
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must be 0 or more")
    layout = layout.scaled(short_side)
    source = np.random.SeedSequence((seed, layout.index)).spawn(4)
    stage_rng, people_rng, looks_rng, image_rng = map(np.random.default_rng, source)
    people, stage = place_people(layout, people_rng)
    return photograph(CrowdSettings(layout.width, layout.height), people, stage, (stage_rng, looks_rng, image_rng))


def write_layouts(
    root: Path | str,
    split: str,
    annotations: Path | str,
    seed: int,
    short_side: int = 192,
    every: int = 1,
    offset: int = 0,
    workers: int = 0,
) -> Path:
    """Render the layouts of annotated images into `root` and return the path of their annotation file.

    annotations: a file in CrowdPose's format, of which images offset, offset + every, ... are taken, so that splits
    can have different ones; see read_layouts. A scene has the image's aspect ratio, its number of people,
    their places, sizes and overlaps; bodies, poses and looks are the generator's. Images in which no person would be
    seen are left out. Files are those of write_dataset; an image's id is the split's first id + the number of
    the annotated image in its file. The annotation file names the SHA-256 of `annotations`, but nothing in it.

    Raises ValueError for a bad argument, and DatasetError if `annotations` cannot be used, or if the split
    exists and holds another dataset.
    """
    check_arguments(split, seed, 1, workers)
    check_short_side(short_side)
    images = read_layouts(annotations, every, offset)
    if images.layouts[-1].index >= MOST_SCENES:
        raise ValueError(f"{annotations}: an annotation file of at most {MOST_SCENES} images is needed")
    info = {
        "description": LAYOUTS,
        "version": [GENERATOR_VERSION, LAYOUTS_VERSION],
        "split": split,
        "seed": seed,
        "annotations_sha256": images.sha256,
        "short_side": short_side,
        "every": every,
        "offset": offset,
    }
    stream = split_seed(split, seed)
    scenes = [(layout.index, partial(render_layout, layout, short_side, stream)) for layout in images.layouts]
    return write_scenes(Path(root), split, info, scenes, workers)


def holds_layouts(target: Path) -> bool:
    """Whether an annotation file is one of write_layouts; False if it is missing.

    Raises DatasetError if it is no annotation file.
    """
    return target.exists() and read_info(target).get("description") == LAYOUTS


def check_short_side(short_side: int) -> None:
    """Raise ValueError unless a canvas of that shorter side, at most 2:1, can be rendered."""
    if isinstance(short_side, bool) or not isinstance(short_side, int) or not 48 <= short_side <= 1024:
        raise ValueError(f"short_side is {short_side!r}; it must be a whole number from 48 to 1024")
