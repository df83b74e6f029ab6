"""Print what a network without error would score: the cost of heatmap cells, merged peaks and the candidate limit.

python tools/upper_bound.py --cfg config/crowdpose/ce_hrhrnet_w32_512.yaml --split val

Needs the annotations only, no images and no weights.
"""

import argparse
from dataclasses import replace

import numpy as np
from tqdm import tqdm

from coupled_embedding.analysis.upper_bound import annotated_poses, decoded_poses
from coupled_embedding.builders import annotations_of, build_pipeline_options, build_records, build_schema
from coupled_embedding.config import load_config
from coupled_embedding.data.audit import warnings
from coupled_embedding.data.io.data_errors import DataErrorPolicy
from coupled_embedding.evaluation import Scores, load_ground_truth, poses_to_results, score_results
from coupled_embedding.utils.cli import command
from rendering import render_missing

UNLIMITED = 1000


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", required=True, help="config file")
    parser.add_argument("--split", help="split (default: DATASET.TEST)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every Nth image only")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="config options to change")
    return parser.parse_args()


def print_table(rows: dict[str, Scores]) -> None:
    """Print the rows as one Markdown table."""
    names = list(next(iter(rows.values())).values)
    print("| what is perfect | " + " | ".join(names) + " |")
    print("| --- |" + " --: |" * len(names))
    for label, scores in rows.items():
        cells = (f"{100 * v:.1f}" if np.isfinite(v) else "n/a" for v in scores.values.values())
        print(f"| {label} | " + " | ".join(cells) + " |")
    for reason in dict.fromkeys(reason for scores in rows.values() for reason in scores.reasons.values()):
        print(f"n/a: {reason}")


@command
def main() -> None:
    """Decode perfect maps of a split and score them."""
    args = parse()
    cfg = load_config(args.cfg, args.overrides)
    schema, split = build_schema(cfg), args.split or cfg.DATASET.TEST
    render_missing(cfg, {split})
    policy = DataErrorPolicy(scored=True)
    records = build_records(cfg, schema, split, policy)[:: args.every]
    for line in policy.warnings + warnings(records, schema):
        print(f"warning: {line}")
    options = build_pipeline_options(cfg, schema).grouping()
    strides = (4, 2) if cfg.MODEL.HEAD == "higher" else (4,)
    rows = {"annotations themselves": {r.image_id: annotated_poses(r) for r in records}}
    choices = {
        "maps and tags, all candidates": replace(options, peaks=replace(options.peaks, max_candidates=UNLIMITED)),
        f"maps and tags, {options.peaks.max_candidates} candidates": options,
    }
    for label, chosen in choices.items():
        progress = tqdm(records, desc=label, unit="image")
        rows[label] = {r.image_id: decoded_poses(r, cfg.DATASET.INPUT_SIZE, strides, chosen) for r in progress}
    truth = load_ground_truth(annotations_of(cfg, schema, split), schema, [record.image_id for record in records])
    category = truth.categories.result
    print_table({label: score_results(truth, poses_to_results(v, category), schema) for label, v in rows.items()})


if __name__ == "__main__":
    main()
