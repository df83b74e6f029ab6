"""Analyze what limits a network on a data set: one page of plots and the numbers behind them.

python tools/diagnose.py --cfg config/synthetic/ce_small.yaml
python tools/diagnose.py --weights models/ce_hrhrnet_w32_512.pth --split val2017 --every 10

Do the embeddings separate people in crowds? Is AP lost in detecting joints or in grouping them?
Which joints are wrong, and how? docs/error_analysis.md has the definitions. Without --weights the
run's best.pth is used; without --cfg the checkpoint's own config.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from coupled_embedding.analysis.error_analysis import analyze_errors, write_analysis
from coupled_embedding.builders import build_eval_job
from coupled_embedding.evaluation import Scores, why_undefined
from coupled_embedding.utils.cli import command
from coupled_embedding.utils.distributed import process_group
from rendering import find_test, render_missing


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", help="config file (default: the checkpoint's own config)")
    parser.add_argument("--weights", help="checkpoint, ours or a released one; a run's folder; a shipped model's name")
    parser.add_argument("--split", default="", help="split to analyze (default: DATASET.TEST)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every Nth image only")
    parser.add_argument("--out", help="folder for the page and its numbers (default: OUTPUT_DIR/NAME/diagnosis_SPLIT)")
    parser.add_argument("--device", default="", choices=["", "cpu", "cuda"], help="default: a GPU where there is one")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="config options to change")
    args = parser.parse_args()
    if not (args.cfg or args.weights):
        parser.error("give --cfg, --weights or both")
    if args.every < 1:
        parser.error("--every: expected a number from 1 on")
    return args


@command
def main() -> None:
    """Parse, analyze every image, print the scores of each run, write."""
    args = parse()
    with process_group(args.device) as env:
        cfg, weights = find_test(args.cfg, args.weights, args.overrides, args.split)
        render_missing(cfg, {args.split or cfg.DATASET.TEST})
        job = build_eval_job(cfg, weights, args.split, env)
        job = replace(job, records=job.records[:: args.every])
        folder = Path(args.out) if args.out else job.folder.with_name(f"diagnosis_{job.split}")
        print(*job.warnings, sep="\n", end="\n" if job.warnings else "")
        print(f"diagnosing {job.weights} on {job.schema.name} {job.split}", flush=True)
        with tqdm(total=len(job.records), unit="image", desc="diagnose") as bar:
            analysis = analyze_errors(job, bar.update)
        truth = job.load_ground_truth()
        for run, values in analysis.runs.items():
            print(f"\n{run}\n{Scores(values, why_undefined(values, truth)).table()}")
        if issues := job.policy.report("invalid images, left out", job.policy.issues, folder):
            print(f"\n{issues}")
        if oriented := job.policy.report_oriented():
            print(f"\n{oriented}")
        page, numbers = write_analysis(analysis, job, folder)
        print(f"\npage: {page}\nnumbers: {numbers}")


if __name__ == "__main__":
    main()
