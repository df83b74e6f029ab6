r"""Train a network.

One process:      python tools/train.py --cfg config/synthetic/ce_small.yaml
4 GPUs:           python tools/train.py --cfg config/coco/ce_hrhrnet_w32_512.yaml --gpus 4
A row of a table: python tools/train.py --model crowdpose_ce_hrhrnet_w32_512 --gpus 8
Several machines: torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \
                  tools/train.py --cfg config/coco/ce_hrhrnet_w32_512.yaml
Where time goes:  python tools/train.py --cfg config/synthetic/ce_small.yaml --profile
Options:          any KEY VALUE pairs behind, such as TRAIN.LR 1e-3
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from coupled_embedding.analysis.profiling import profile_training
from coupled_embedding.engine.checkpoint_files import list_checkpoints
from coupled_embedding.engine.checkpointer import earlier_ends
from coupled_embedding.engine.run import run_folder, train
from coupled_embedding.utils.cli import add_run_options, command
from coupled_embedding.utils.distributed import launch_if_asked, process_group
from coupled_embedding.zoo.jobs import add_model_options, check_choice, job_of_training
from coupled_embedding.zoo.records import record_of_training, write_record


def checkpoint_file(name: str) -> str:
    """Return the name of a checkpoint, or ``auto``; argparse would take any KEY that follows for one."""
    if name != "auto" and not name.endswith(".pth"):
        raise argparse.ArgumentTypeError(f"{name}: expected a .pth file; put --resume last, or before another option")
    return name


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_options(parser)
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        type=checkpoint_file,
        metavar="CHECKPOINT",
        help="continue from the run's latest checkpoint, or from the one given",
    )
    add_run_options(parser)
    args = parser.parse_args()
    check_choice(parser, args, ["cfg", "model"])
    return args


def told_of_earlier_ends(folder: Path) -> str:
    """Return what a record says of a run that was trained longer than first planned; nothing of others."""
    ends = earlier_ends(folder)
    epochs = " and ".join(map(str, ends)) + (" epoch" if ends == [1] else " epochs")
    return f"trained longer: it had ended after {epochs}, and went on from there" if ends else ""


@command
def main() -> None:
    """Parse, launch, train."""
    args = parse()
    job = job_of_training(args)
    cfg = job.load()
    launch_if_asked(args.gpus, sys.argv)
    with process_group(args.device) as world:
        if world.is_main and job.warning:
            print(job.warning, flush=True)
        if args.profile:
            report = profile_training(cfg, world)
            if world.is_main:
                print(report)
            return
        final = run_folder(cfg) / "final.pth"
        before = final.stat().st_mtime_ns if final.is_file() else None
        start, continued = time.perf_counter(), bool(list_checkpoints(run_folder(cfg)))
        scores = train(cfg, world, args.resume)
        if not world.is_main:
            return
        if final.stat().st_mtime_ns == before:
            print(f"{run_folder(cfg)}: was finished before; nothing to do")
            return
        record = record_of_training(job, cfg, world, run_folder(cfg), scores, time.perf_counter() - start, continued)
        record = replace(record, notes="; ".join(filter(None, (record.notes, told_of_earlier_ends(run_folder(cfg))))))
        print(f"record: {write_record(record, run_folder(cfg))}")
        if scores:
            print(f"{cfg.DATASET.VAL}: " + ", ".join(f"{name} {100 * value:.1f}" for name, value in scores.items()))


if __name__ == "__main__":
    main()
