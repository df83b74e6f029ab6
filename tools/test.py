"""Test a network: predict the poses of every image, score them, write the results file and overlays.

python tools/test.py --cfg config/synthetic/ce_small.yaml
python tools/test.py --cfg config/coco/ce_hrhrnet_w32_512.yaml --weights models/ce_hrhrnet_w32_512.pth
python tools/test.py --model crowdpose_ce_hrhrnet_w48_640_ms --gpus 8
python tools/test.py --weights outputs/synthetic_ce_small/best.pth TEST.SCALES "[2, 1, 0.5]"
python tools/test.py --cfg config/synthetic/ce_small.yaml --profile

Without --weights the run's best.pth is tested, or its final.pth if it has no best one; with --model
first the card's file in models/. Without
--cfg the checkpoint's own config applies. KEY VALUE pairs at the end change options of either.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from coupled_embedding.analysis.profiling import profile_test
from coupled_embedding.builders import build_eval_job, describe
from coupled_embedding.decode.stage_times import StageTimes
from coupled_embedding.engine.evaluate import evaluate
from coupled_embedding.engine.outputs import write_overlays, write_result
from coupled_embedding.utils.cli import add_run_options, command
from coupled_embedding.utils.distributed import DistEnv, process_group, relaunch_with_ranks, run_on_rank0
from coupled_embedding.zoo.records import record_of_test, write_record
from coupled_embedding.zoo.run_specs import add_model_options, check_choice, spec_of_test
from rendering import find_test, render_missing


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_options(parser)
    parser.add_argument("--weights", help="checkpoint, ours or a released one; a run's folder; a shipped model's name")
    parser.add_argument("--split", default="", help="split to test (default: DATASET.TEST)")
    parser.add_argument("--out", help="folder for results and overlays (default: OUTPUT_DIR/NAME/test_SPLIT)")
    add_run_options(parser)
    args = parser.parse_args()
    check_choice(parser, args, ["cfg", "model", "weights"])
    return args


def print_times(times: StageTimes, seconds: float, env: DistEnv, unit: str) -> None:
    """Print where the time went; network and decode run at the same time."""
    stages = ", ".join(f"{name} {1000 * s / times.images:.1f}" for name, s in sorted(times.seconds.items()))
    print(
        f"{times.images} {unit}s on {env.device}{' (of rank 0)' if env.world_size > 1 else ''}: "
        f"{1000 * seconds / times.images:.1f} ms per {unit} (ms by stage: {stages})"
    )


@command
def main() -> None:
    """Parse, launch, test."""
    args = parse()
    relaunch_with_ranks(args.gpus, sys.argv)
    with process_group(args.device) as env:
        spec = spec_of_test(args)
        cfg, weights = find_test(spec.config, spec.weights, spec.overrides, args.split)
        split = args.split or cfg.DATASET.TEST
        run_on_rank0(lambda: render_missing(cfg, {split}), env)
        job = build_eval_job(cfg, weights, split, env)
        job = replace(job, folder=Path(args.out) if args.out else job.folder)
        if env.is_rank0:
            print(
                *job.warnings, f"testing {weights} on {len(job.records)} images of {job.schema.name} {split}", sep="\n"
            )
            sys.stdout.flush()
        if args.profile:
            report = profile_test(job, job.folder, env)
            if env.is_rank0:
                print(report)
            return
        start = time.perf_counter()
        result = evaluate(job, env, progress=True)
        if not env.is_rank0:
            return
        seconds = time.perf_counter() - start
        print_times(result.times, seconds, env, "image" if job.crops is None else "crop")
        if issues := job.policy.report("invalid images and annotations, skipped", job.policy.issues, job.folder):
            print(issues)
        if oriented := job.policy.report_oriented():
            print(oriented)
        metrics = result.scores.values if result.scores else {}
        record = record_of_test(spec, describe(cfg), env, weights, split, len(job.records), metrics, seconds)
        print(f"results: {write_result(result, job, job.folder)}\nrecord: {write_record(record, job.folder)}")
        if result.scores:
            overlays = write_overlays(result.poses, job, job.folder)
            print(f"overlays: {len(overlays)} in {job.folder}\n\n{result.scores.table()}")
        else:
            print("the annotations of this split are not public: send the results file to the benchmark's server")


if __name__ == "__main__":
    main()
