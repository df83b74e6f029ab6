"""Render a synthetic crowd as a dataset folder in CrowdPose's layout, or as a contact sheet.

python tools/make_synthetic.py --out datasets/my_crowd --split train --count 8000 --workers 2
python tools/make_synthetic.py --sheet sheet.png --sheet-labels --size 384x384 --count 12
python tools/make_synthetic.py --layouts crowdpose_val.json --every 2 --offset 1 --out datasets/layouts --split test

With --layouts, people are where those of the images of an annotation file in CrowdPose's format are.
"""

import argparse
import re
import sys
from pathlib import Path

import cv2
import numpy as np

from coupled_embedding.utils.errors import UserError
from synthetic_crowd import (
    CrowdSettings,
    Scene,
    draw_labels,
    read_layouts,
    render_layout,
    render_scene,
    write_dataset,
    write_layouts,
)
from synthetic_crowd.writer import split_seed

SHEET_SCENES = 24  # at most: more would be too small to see
_GENERATED_ONLY = ("count", "size", "min_people", "max_people", "crowd_index")
_LAYOUTS_ONLY = ("short_side", "every", "offset")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder of the dataset (created; omit it to write a sheet only)")
    parser.add_argument("--split", default="train", help="name of the split: train, val, test, ... (%(default)s)")
    parser.add_argument("--count", type=int, default=1000, help="number of scenes (%(default)s)")
    add_crowd_options(parser, size="192x192", people=(1, 10))
    parser.add_argument("--layouts", type=Path, metavar="FILE", help="annotation file that says where people are")
    parser.add_argument(
        "--short-side", type=int, default=192, help="of layouts: shorter side in pixels; the longer is the image's"
    )
    parser.add_argument("--every", type=int, default=1, help="of layouts: take every Nth image only (%(default)s)")
    parser.add_argument("--offset", type=int, default=0, help="of layouts: start at this image, from 0 (%(default)s)")
    parser.add_argument(
        "--sheet", type=Path, help=f"also write a contact sheet of the first {SHEET_SCENES} scenes here"
    )
    parser.add_argument("--sheet-labels", action="store_true", help="draw boxes and joints on the sheet")
    arguments = parser.parse_args()
    names = _GENERATED_ONLY if arguments.layouts else _LAYOUTS_ONLY
    changed = [f"--{n.replace('_', '-')}" for n in names if getattr(arguments, n) != parser.get_default(n)]
    if changed:
        why = "the layouts' images decide it" if arguments.layouts else "it needs --layouts FILE"
        parser.error(f"{', '.join(changed)}: {why}")
    return arguments


def add_crowd_options(parser: argparse.ArgumentParser, size: str, people: tuple[int, int]) -> None:
    """Add the options of a crowd, with the given defaults: width x height, and fewest and most people."""
    parser.add_argument("--seed", type=int, default=0, help="another seed, another crowd (%(default)s)")
    parser.add_argument("--size", default=size, help="width x height in pixels (%(default)s)")
    parser.add_argument("--min-people", type=int, default=people[0], help="fewest people per scene (%(default)s)")
    parser.add_argument("--max-people", type=int, default=people[1], help="most people per scene (%(default)s)")
    parser.add_argument(
        "--crowd-index", type=float, help="steer all scenes to this crowd index, 0 to 1 (default: mixed)"
    )
    parser.add_argument("--workers", type=int, default=0, help="processes; 0 renders in this one (%(default)s)")


def settings_from(arguments: argparse.Namespace) -> CrowdSettings:
    """The crowd's settings; ValueError names what is wrong."""
    size = re.fullmatch(r"(\d+)[xX](\d+)", arguments.size)
    if not size:
        raise ValueError(f"--size is {arguments.size!r}; it must look like 192x192 (width x height)")
    return CrowdSettings(
        width=int(size[1]),
        height=int(size[2]),
        min_people=arguments.min_people,
        max_people=arguments.max_people,
        crowd_index=arguments.crowd_index,
    )


def write_sheet(path: Path, scenes: list[Scene], labels: bool) -> None:
    """Write scenes side by side as one image, with their labels if wanted."""
    tiles = [draw_labels(scene) if labels else scene.image for scene in scenes]
    height, width = np.max([tile.shape[:2] for tile in tiles], axis=0)
    tiles = [cv2.copyMakeBorder(t, 0, height - t.shape[0], 0, width - t.shape[1], cv2.BORDER_CONSTANT) for t in tiles]
    columns = min(len(tiles), 6 if width <= 256 else 4)
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[first : first + columns]) for first in range(0, len(tiles), columns)]
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), np.vstack(rows)):
        raise UserError(f"cannot write {path}")
    print(f"{len(scenes)} scenes on {path}")


def first_scenes(arguments: argparse.Namespace) -> list[Scene]:
    """Render the split's first scenes."""
    seed = split_seed(arguments.split, arguments.seed)
    if arguments.layouts is None:
        settings = settings_from(arguments)
        return [render_scene(settings, seed, index) for index in range(min(arguments.count, SHEET_SCENES))]
    layouts = read_layouts(arguments.layouts, arguments.every, arguments.offset).layouts[:SHEET_SCENES]
    return [render_layout(layout, arguments.short_side, seed) for layout in layouts]


def write_split(arguments: argparse.Namespace) -> Path:
    """Write the data set; return its annotation file."""
    place, workers = (arguments.out, arguments.split), arguments.workers
    if arguments.layouts is None:
        return write_dataset(*place, settings_from(arguments), arguments.seed, arguments.count, workers)
    share = (arguments.short_side, arguments.every, arguments.offset)
    return write_layouts(*place, arguments.layouts, arguments.seed, *share, workers)


def main() -> None:
    """Run the command."""
    arguments = parse()
    if arguments.out is None and arguments.sheet is None:
        raise UserError("nothing to do: give --out DIR for a dataset, --sheet FILE for a contact sheet, or both")
    if arguments.seed < 0 or arguments.count < 1:
        raise ValueError(f"--seed is {arguments.seed} and --count {arguments.count}; they must be at least 0 and 1")
    if arguments.sheet is not None:
        write_sheet(arguments.sheet, first_scenes(arguments), arguments.sheet_labels)
    if arguments.out is not None:
        print(write_split(arguments))


if __name__ == "__main__":
    try:
        main()
    except (UserError, ValueError, OSError) as error:
        sys.exit(f"make_synthetic: {error}")
