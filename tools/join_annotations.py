"""Join COCO-format annotation files, such as CrowdPose's train and val into trainval.

python tools/join_annotations.py datasets/crowdpose/json/crowdpose_train.json \
    datasets/crowdpose/json/crowdpose_val.json --out datasets/crowdpose/json/crowdpose_trainval.json
"""

import argparse
import json
from pathlib import Path

from coupled_embedding.data.coco import join_annotations
from coupled_embedding.utils.atomic import atomic_write, check_new
from coupled_embedding.utils.cli import command


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="annotation files")
    parser.add_argument("--out", required=True, type=Path, help="the file to write; must not exist")
    return parser.parse_args()


@command
def main() -> None:
    """Join and write."""
    args = parse()
    check_new(args.out)
    joined = join_annotations(args.files)
    atomic_write(args.out, json.dumps(joined), "the joined annotations")
    print(f"{args.out}: {len(joined['images'])} images, {len(joined['annotations'])} annotations")


if __name__ == "__main__":
    main()
