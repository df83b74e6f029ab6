r"""Train a network.

One process:      python tools/train.py --cfg config/synthetic/ce_small.yaml
4 GPUs:           python tools/train.py --cfg config/coco/ce_hrhrnet_w32_512.yaml --gpus 4
A row of a table: python tools/train.py --model crowdpose_ce_hrhrnet_w32_512 --gpus 8
Several machines: torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \
                  tools/train.py --cfg config/coco/ce_hrhrnet_w32_512.yaml
Where time goes:  python tools/train.py --cfg config/synthetic/ce_small.yaml --profile
Options:          any KEY VALUE pairs at the end, such as TRAIN.LR 1e-3
"""

import argparse
import sys
import time

from coupled_embedding.analysis.profiling import profile_training
from coupled_embedding.builders import build_train_run, describe, run_folder, start_train_run
from coupled_embedding.config import load_config
from coupled_embedding.engine.checkpointer import list_checkpoints
from coupled_embedding.engine.run_folder import earlier_ends
from coupled_embedding.engine.train import train
from coupled_embedding.utils.cli import add_run_options, command
from coupled_embedding.utils.cores import limit_threads
from coupled_embedding.utils.distributed import process_group, relaunch_with_ranks, run_on_rank0
from coupled_embedding.zoo.markdown import percent
from coupled_embedding.zoo.records import record_of_training, write_record
from coupled_embedding.zoo.run_specs import add_model_options, check_choice, spec_of_training
from rendering import render_missing


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


def note_of_earlier_ends(ends: list[int]) -> str:
    """Return what a record says of a run that was trained longer than first planned; nothing of others."""
    epochs = " and ".join(map(str, ends)) + (" epoch" if ends == [1] else " epochs")
    return f"trained longer: it had ended after {epochs}, and went on from there" if ends else ""


@command
def main() -> None:
    """Parse, launch, train."""
    args = parse()
    spec = spec_of_training(args)
    cfg = load_config(spec.config, spec.overrides)
    relaunch_with_ranks(args.gpus, sys.argv)
    with process_group(args.device) as env:
        if env.is_rank0 and spec.warning:
            print(spec.warning, flush=True)
        run_on_rank0(lambda: render_missing(cfg, {cfg.DATASET.TRAIN, cfg.DATASET.VAL}), env)
        if env.device.type == "cpu" and env.world_size == 1 and not cfg.TRAIN.THREADS and (limited := limit_threads()):
            print(limited, flush=True)
        if args.profile:
            report = profile_training(build_train_run(cfg, env))
            if env.is_rank0:
                print(report)
            return
        folder = run_folder(cfg)
        final = folder / "final.pth"
        before = final.stat().st_mtime_ns if final.is_file() else None
        start, continued = time.perf_counter(), bool(list_checkpoints(folder))
        scores = train(start_train_run(cfg, env, args.resume))
        if not env.is_rank0:
            return
        if final.stat().st_mtime_ns == before:
            print(f"{folder}: was finished before; nothing to do")
            return
        seconds, notes = time.perf_counter() - start, note_of_earlier_ends(earlier_ends(folder))
        record = record_of_training(spec, describe(cfg), env, scores, seconds, continued, notes)
        print(f"record: {write_record(record, folder)}")
        if scores:
            print(f"{cfg.DATASET.VAL}: " + ", ".join(f"{name} {percent(value)}" for name, value in scores.items()))


if __name__ == "__main__":
    main()
