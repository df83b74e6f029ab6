"""Test a network: people of every photo, scores, results file and pictures.

python tools/test.py --cfg config/synthetic/ce_small.yaml
python tools/test.py --cfg config/coco/ce_hrhrnet_w32_512.yaml --weights models/ce_hrhrnet_w32_512.pth
python tools/test.py --model crowdpose_ce_hrhrnet_w48_640_ms --gpus 8
python tools/test.py --weights outputs/synthetic_ce_small/best.pth TEST.SCALES "[2, 1, 0.5]"
python tools/test.py --cfg config/synthetic/ce_small.yaml --profile

Without --weights the run's best.pth is tested, or its final.pth if it has no best one; with --model
first the card's file in models/. Without
--cfg the checkpoint's own config applies. KEY VALUE pairs behind change options of either.
"""

import argparse
import sys
import time
from pathlib import Path

from coupled_embedding.analysis.profiling import profile_test
from coupled_embedding.decode.pipeline import StageTimes
from coupled_embedding.engine.evaluate import prepare_test, run_test, write_outcome, write_overlays
from coupled_embedding.utils.cli import add_run_options, command
from coupled_embedding.utils.distributed import World, launch_if_asked, process_group
from coupled_embedding.zoo.jobs import add_model_options, check_choice, job_of_test
from coupled_embedding.zoo.records import record_of_test, write_record


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_options(parser)
    parser.add_argument("--weights", help="checkpoint, ours or a released one")
    parser.add_argument("--split", help="split to test (default: DATASET.TEST)")
    parser.add_argument("--out", help="folder for results and pictures (default: OUTPUT_DIR/NAME/test_SPLIT)")
    add_run_options(parser)
    args = parser.parse_args()
    check_choice(parser, args, ["cfg", "model", "weights"])
    return args


def report_times(times: StageTimes, seconds: float, world: World) -> None:
    """Print where the time went; network and decode run side by side."""
    stages = ", ".join(f"{name} {1000 * s / times.photos:.1f}" for name, s in sorted(times.seconds.items()))
    print(
        f"{times.photos} photos on {world.device}{' (of process 0)' if world.size > 1 else ''}: "
        f"{1000 * seconds / times.photos:.1f} ms a photo (ms by stage: {stages})"
    )


@command
def main() -> None:
    """Parse, launch, test."""
    args = parse()
    launch_if_asked(args.gpus, sys.argv)
    with process_group(args.device) as world:
        job = job_of_test(args)
        task = prepare_test(job.config, job.weights, job.overrides, args.split, world)
        if world.is_main:
            print("".join(f"warning: {line}\n" for line in task.warnings), end="")
            print(
                f"testing {task.weights} on {len(task.records)} photos of {task.schema.name} {task.split}", flush=True
            )
        folder = Path(args.out) if args.out else task.folder
        if args.profile:
            report = profile_test(task, folder, world)
            if world.is_main:
                print(report)
            return
        start = time.perf_counter()
        bad_input = task.bad_input
        outcome = run_test(
            task.network, task.cfg, task.schema, task.records, task.split, world, progress=True, bad_input=bad_input
        )
        if not world.is_main:
            return
        seconds = time.perf_counter() - start
        report_times(outcome.times, seconds, world)
        if told := bad_input.report("broken photos, left out", bad_input.problems, folder):
            print(told)
        results = write_outcome(outcome, folder, task.schema, task.split, task.cfg.NAME)
        figures = outcome.scores.values if outcome.scores else {}
        record = record_of_test(job, task.cfg, world, task.weights, task.split, len(task.records), figures, seconds)
        print(f"results: {results}\nrecord: {write_record(record, folder)}")
        if outcome.scores:
            readable = [record for record in task.records if record.image_id not in bad_input.unreadable]
            pictures = write_overlays(outcome.people, readable, task.schema, folder, task.cfg.TEST.OVERLAYS)
            print(f"pictures: {len(pictures)} in {folder}\n\n{outcome.scores.table()}")
        else:
            print("the annotations of this split are not public: send the results file to the benchmark's server")


if __name__ == "__main__":
    main()
