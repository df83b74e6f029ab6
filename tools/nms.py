"""Suppress poses in results files: of several poses of one person the best stays. Several files are merged.

python tools/nms.py results.json --schema datasets/crowdpose.yaml --preset released --out fewer.json
python tools/nms.py scale_1.json scale_2.json other_model.json --preset oks --parameters threshold=0.7 --out merged.json
python tools/nms.py results.json --cfg config/synthetic/ce_small.yaml --preset fitted.yaml --out fewer.json

The results are lists in COCO's format, of this or of any other program. Presets: oks, oks_soft, paper, released and
released_wholebody (RMPE's parametric suppression by the paper's formulas, and as AlphaPose has it), or a file that
tools/fit_nms.py wrote.
"""

import argparse
from pathlib import Path

from coupled_embedding.builders import build_schema
from coupled_embedding.config import load_config
from coupled_embedding.evaluation import build_pose_nms, read_results, suppress_results, write_results
from coupled_embedding.utils.atomic import check_new
from coupled_embedding.utils.cli import command


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", help="results files")
    parser.add_argument("--preset", required=True, metavar="NAME|FILE", help="how poses are compared")
    parser.add_argument(
        "--parameters", nargs="+", default=[], metavar="NAME=VALUE", help="values over the preset's, such as eta=20"
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--schema", default="datasets/coco.yaml", help="whose joints they are (default: %(default)s)")
    source.add_argument("--cfg", help="config file, whose data set has these joints")
    parser.add_argument("--out", required=True, type=Path, help="the file to write; must not exist")
    return parser.parse_args()


@command
def main() -> None:
    """Read, suppress, write."""
    args = parse()
    check_new(args.out)
    schema = build_schema(load_config(args.cfg, [] if args.cfg else ["DATASET.SCHEMA", args.schema]))
    nms = build_pose_nms(args.preset, schema.sigmas, args.parameters, "--parameters" if args.parameters else "--preset")
    results = [entry for path in args.results for entry in read_results(path, schema)]
    if results and not any(score > 0 for entry in results for score in entry["keypoints"][2::3]):
        print("warning: no joint has a score above 0: all count as missing, and nothing can be compared")
    left = suppress_results(results, schema, nms)
    write_results(args.out, left)
    images = len({entry["image_id"] for entry in results})
    print(f"{args.out}: {len(left)} of {len(results)} poses in {images} images")


if __name__ == "__main__":
    main()
