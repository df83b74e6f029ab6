"""Turn a data set of another tool into COCO-format files and a schema, for check_dataset.py and train.py.

python tools/convert_dataset.py my_yolo_folder --out data/mine
python tools/convert_dataset.py annotations.xml --images frames.zip --out data/mine --name mine
python tools/convert_dataset.py export.json --joints nose left_eye right_eye --out data/mine
python tools/convert_dataset.py mpii_human_pose_v1_u12_1.mat --images images --out datasets/mpii --name mpii

Reads YOLO-pose folders (yolo), CVAT's "CVAT for images 1.1" (cvat) and "COCO Keypoints 1.0" (coco), other COCO
keypoint files (coco), Roboflow's COCO exports (roboflow), Label Studio's JSON (label-studio), MPII's annotation file
(mpii: all people, mpii-single: the single ones) and JSON conversions of it (mpii-json); unpack archives first.
Leaves annotations/SPLIT.json and NAME.yaml in --out; images stay where they are. Prints what was assumed.
"""

import argparse
from pathlib import Path

from coupled_embedding.data.importers import FORMATS, ImportOptions, default_name, import_dataset, write_dataset
from coupled_embedding.utils.cli import command


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of the data set, or the file that describes it")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="folder to write to; files are not replaced"
    )
    parser.add_argument("--name", help="short name of the data set (default: the source's)")
    parser.add_argument(
        "--format", choices=list(FORMATS), default="", help="of the source (default: found by its files)"
    )
    parser.add_argument("--images", type=Path, help="folder or zip file of the images, if they are elsewhere")
    parser.add_argument(
        "--class", nargs="+", default=[], dest="classes", metavar="NAME", help="classes that are people, of several"
    )
    parser.add_argument(
        "--joints", nargs="+", default=[], metavar="NAME", help="joint names, where the source has none"
    )
    parser.add_argument(
        "--val", type=Path, metavar="FILE", help="list of MPII's validation images: names, or a JSON conversion's file"
    )
    parser.add_argument("--copy", action="store_true", help="copy the images to --out")
    return parser.parse_args()


@command
def main() -> None:
    """Read, write, print what to review."""
    args = parse()
    options = ImportOptions(args.images, tuple(args.classes), tuple(args.joints), args.val)
    dataset = import_dataset(args.source, options, args.format)
    name = args.name or default_name(args.source)
    print("\n".join([f"{dataset.source}: {dataset.kind}", *write_dataset(dataset, args.out, name, args.copy)]))
    print(f"next: python tools/check_dataset.py --schema {args.out / name}.yaml --split {next(iter(dataset.splits))}")


if __name__ == "__main__":
    main()
