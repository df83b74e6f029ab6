"""Print what a network without error would score: the cost of cells, merged peaks and candidates.

python tools/upper_bound.py --cfg config/crowdpose/ce_hrhrnet_w32_512.yaml --split val

Needs the annotations only, no photos and no weights.
"""

import argparse
from dataclasses import replace

import numpy as np
from tqdm import tqdm

from coupled_embedding.analysis.upper_bound import annotated_poses, decoded_poses
from coupled_embedding.config import load_config
from coupled_embedding.decode.decode import build_decode_settings
from coupled_embedding.evaluation import Scores, load_ground_truth, poses_to_results, score_results
from coupled_embedding.prepare import annotations_of, records_of, render_missing, schema_of
from coupled_embedding.utils.cli import command

UNLIMITED = 1000


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", required=True, help="config file")
    parser.add_argument("--split", help="split (default: DATASET.TEST)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every Nth photo only")
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
    schema = schema_of(cfg)
    split = args.split or cfg.DATASET.TEST
    render_missing(cfg, schema, {split})
    records = records_of(cfg, schema, split)[:: args.every]
    ids = [record.image_id for record in records]
    settings = build_decode_settings(cfg, schema)
    strides = (4, 2) if cfg.MODEL.HEAD == "higher" else (4,)
    rows = {"annotations themselves": {r.image_id: annotated_poses(r) for r in records}}
    choices = {
        "maps and tags, all candidates": replace(settings, peaks=replace(settings.peaks, limit=UNLIMITED)),
        f"maps and tags, {settings.peaks.limit} candidates": settings,
    }
    for label, chosen in choices.items():
        progress = tqdm(records, desc=label, unit="photo")
        rows[label] = {r.image_id: decoded_poses(r, cfg.DATASET.INPUT_SIZE, strides, chosen) for r in progress}
    truth = load_ground_truth(annotations_of(cfg, schema, split), schema, ids)
    category = truth.categories.result
    print_table({label: score_results(truth, poses_to_results(v, category), schema) for label, v in rows.items()})


if __name__ == "__main__":
    main()
