"""Fit how detected boxes differ from annotated ones, by kind of pose, to vary the boxes of crops in training.

python tools/fit_proposals.py detections.json --cfg config/synthetic/ce_small.yaml --split train --out proposals.json

The detections are a list in COCO's format with bbox, or poses with keypoints, whose extent is widened to a box. Each is
paired with the annotated box that it overlaps most. The file that is written is for AUGMENT.PROPOSALS.
"""

import argparse
from pathlib import Path

from coupled_embedding.builders import annotations_of, build_records, build_schema, check_not_held_out
from coupled_embedding.config import load_config
from coupled_embedding.data.fit_proposals import fit_proposals, paired_shifts, proposals_text
from coupled_embedding.evaluation import load_ground_truth, read_boxes
from coupled_embedding.utils.atomic import atomic_write, check_new
from coupled_embedding.utils.cli import at_least_one, command
from coupled_embedding.utils.errors import UserError


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detections", help="file of detected boxes, or of poses")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--cfg", help="config file, whose data set it is")
    source.add_argument("--schema", help="schema of the data set")
    parser.add_argument("--split", help="split that was detected in (default: the config's DATASET.TRAIN)")
    parser.add_argument("--clusters", type=at_least_one, default=30, help="kinds of poses (default: %(default)s)")
    parser.add_argument(
        "--parts", type=at_least_one, default=2, help="normal distributions of each kind (default: %(default)s)"
    )
    parser.add_argument("--out", required=True, type=Path, help="the JSON file to write; must not exist")
    parser.add_argument(
        "--options", dest="overrides", nargs="*", default=[], metavar="KEY VALUE", help="config options to change"
    )
    return parser.parse_args()


@command
def main() -> None:
    """Read, pair, fit, write."""
    args = parse()
    check_new(args.out)
    schema_option = ["DATASET.SCHEMA", args.schema] if args.schema else []
    cfg = load_config(args.cfg, [*schema_option, *args.overrides])
    schema = build_schema(cfg)
    split = args.split or (cfg.DATASET.TRAIN if args.cfg else "")
    if not split:
        raise UserError(f"--split: which one of {', '.join(schema.splits) or 'none'}?")
    for line in check_not_held_out(cfg, schema, split, "boxes"):
        print(line)
    truth = load_ground_truth(annotations_of(cfg, schema, split), schema)
    boxes = read_boxes(args.detections, schema, truth.categories, truth.known_ids)
    shifts, poses = paired_shifts(build_records(cfg, schema, split), boxes)
    proposals = fit_proposals(shifts, poses, schema.joints, args.clusters, args.parts, cfg.SEED)
    atomic_write(args.out, proposals_text(proposals), "the proposals")
    means, deviations = (", ".join(f"{v:.3f}" for v in values) for values in (shifts.mean(0), shifts.std(0)))
    count = sum(map(len, boxes.values()))
    print(
        f"{args.out}: {len(shifts)} of {count} detected boxes are paired with an annotated one\n"
        f"shifts of left, top, right, bottom in widths and heights: mean {means}, deviation {deviations}"
    )


if __name__ == "__main__":
    main()
