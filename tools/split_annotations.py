"""Split a COCO-format annotation file in two, for a data set that comes without a validation split.

python tools/split_annotations.py all.json --every 25 --out train.json val.json

Every 25th image, in the file's order, and its annotations go to the second file, the others to the first. With
--most 500 only the first 500 of them do.
"""

import argparse
import json
from pathlib import Path

from coupled_embedding.data.coco import split_annotations
from coupled_embedding.utils.atomic import atomic_write, check_new
from coupled_embedding.utils.cli import command
from coupled_embedding.utils.errors import UserError


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="annotation file")
    parser.add_argument("--every", type=int, default=10, help="one image of so many is for validation (%(default)s)")
    parser.add_argument("--most", type=int, default=0, metavar="M", help="of which the first M; 0: all (%(default)s)")
    parser.add_argument("--out", nargs=2, required=True, type=Path, metavar=("TRAIN", "VAL"), help="must not exist")
    return parser.parse_args()


@command
def main() -> None:
    """Split and write."""
    args = parse()
    if args.out[0].resolve() == args.out[1].resolve():
        raise UserError(f"--out: expected two different files, got {args.out[0]} and {args.out[1]}")
    if args.most < 0:
        raise UserError(f"--most: expected a number from 0 on, got {args.most}")
    for path in args.out:
        check_new(path)
    for path, part in zip(args.out, split_annotations(args.file, args.every, args.most), strict=True):
        atomic_write(path, json.dumps(part), "the annotations")
        print(f"{path}: {len(part['images'])} images, {len(part['annotations'])} annotations")


if __name__ == "__main__":
    main()
