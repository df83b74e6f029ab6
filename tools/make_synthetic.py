"""Render a synthetic crowd as a dataset folder in CrowdPose's layout, or as a contact sheet.

python tools/make_synthetic.py --out datasets/my_crowd --split train --count 8000 --workers 2
python tools/make_synthetic.py --sheet sheet.png --sheet-labels --size 384x384 --count 12
"""

import argparse
import re
import sys
from pathlib import Path

import cv2
import numpy as np

from coupled_embedding.utils.errors import UserError
from synthetic_crowd import CrowdSettings, draw_labels, render_scene, write_dataset
from synthetic_crowd.writer import split_seed

SHEET_SCENES = 24  # at most: more would be too small to see


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder of the dataset (created; omit it to write a sheet only)")
    parser.add_argument("--split", default="train", help="name of the split: train, val, test, ... (%(default)s)")
    parser.add_argument("--count", type=int, default=1000, help="number of scenes (%(default)s)")
    add_crowd_options(parser, size="192x192", people=(1, 10))
    parser.add_argument(
        "--sheet", type=Path, help=f"also write a contact sheet of the first {SHEET_SCENES} scenes here"
    )
    parser.add_argument("--sheet-labels", action="store_true", help="draw boxes and joints on the sheet")
    return parser.parse_args()


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


def write_sheet(path: Path, settings: CrowdSettings, arguments: argparse.Namespace) -> None:
    """Write the split's first scenes side by side as one image."""
    count = min(arguments.count, SHEET_SCENES)
    seed = split_seed(arguments.split, arguments.seed)
    scenes = [render_scene(settings, seed, index) for index in range(count)]
    tiles = [draw_labels(scene) if arguments.sheet_labels else scene.image for scene in scenes]
    columns = min(count, 6 if settings.width <= 256 else 4)
    tiles += [np.zeros_like(tiles[0])] * (-count % columns)
    rows = [np.hstack(tiles[first : first + columns]) for first in range(0, len(tiles), columns)]
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), np.vstack(rows)):
        raise UserError(f"cannot write {path}")
    print(f"{count} scenes on {path}")


def main() -> None:
    """Run the command."""
    arguments = parse()
    if arguments.out is None and arguments.sheet is None:
        raise UserError("nothing to do: give --out DIR for a dataset, --sheet FILE for a contact sheet, or both")
    if arguments.seed < 0 or arguments.count < 1:
        raise ValueError(f"--seed is {arguments.seed} and --count {arguments.count}; they must be at least 0 and 1")
    settings = settings_from(arguments)
    if arguments.sheet is not None:
        write_sheet(arguments.sheet, settings, arguments)
    if arguments.out is not None:
        print(
            write_dataset(arguments.out, arguments.split, settings, arguments.seed, arguments.count, arguments.workers)
        )


if __name__ == "__main__":
    try:
        main()
    except (UserError, ValueError, OSError) as error:
        sys.exit(f"make_synthetic: {error}")
