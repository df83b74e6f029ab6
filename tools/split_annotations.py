"""Split a COCO-format annotation file in two, for a data set that comes without a validation split.

python tools/split_annotations.py all.json --every 25 --out train.json val.json

Every 25th image, in the file's order, and its annotations go to the second file, the others to the first.
"""

import argparse
import json
from pathlib import Path

from coupled_embedding.data.coco import read_json
from coupled_embedding.utils.atomic import atomic_write
from coupled_embedding.utils.cli import command
from coupled_embedding.utils.errors import UserError


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="annotation file")
    parser.add_argument("--every", type=int, default=10, help="one image of so many is for validation (%(default)s)")
    parser.add_argument("--out", nargs=2, required=True, type=Path, metavar=("TRAIN", "VAL"), help="must not exist")
    return parser.parse_args()


@command
def main() -> None:
    """Split and write."""
    args = parse()
    content = read_json(args.file, ["images", "annotations"])
    images = content["images"]
    if not 2 <= args.every <= len(images):
        raise UserError(f"--every {args.every}: expected 2 to {len(images)}, the number of images in {args.file}")
    for path in args.out:
        if path.exists():
            raise UserError(f"{path} exists; delete it first to write it again")
    chosen = images[args.every - 1 :: args.every]
    ids = [{image.get("id") for image in images} - (held := {image.get("id") for image in chosen}), held]
    for path, part in zip(args.out, ids, strict=True):
        kept = {
            "images": [image for image in images if image.get("id") in part],
            "annotations": [a for a in content["annotations"] if a.get("image_id") in part],
        }
        atomic_write(path, json.dumps({**content, **kept}), "the annotations")
        print(f"{path}: {len(kept['images'])} images, {len(kept['annotations'])} annotations")


if __name__ == "__main__":
    main()
