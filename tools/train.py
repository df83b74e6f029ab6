r"""Train a network.

One process:      python tools/train.py --cfg config/synthetic/ce_small.yaml
4 GPUs:           python tools/train.py --cfg config/coco/ce_hrhrnet_w32_512.yaml --gpus 4
Several machines: torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \
                  tools/train.py --cfg config/coco/ce_hrhrnet_w32_512.yaml
Where time goes:  python tools/train.py --cfg config/synthetic/ce_small.yaml --profile
Options:          any KEY VALUE pairs behind, such as TRAIN.LR 1e-3
"""

import argparse
import sys

from coupled_embedding.commands import add_run_options, command
from coupled_embedding.config import load_config
from coupled_embedding.distributed import launch_if_asked, process_group
from coupled_embedding.profiling import profile_training
from coupled_embedding.training.run import train


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", required=True, help="config file")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="continue from the run's latest checkpoint, or from the one given",
    )
    add_run_options(parser)
    args = parser.parse_args()
    if args.resume and args.resume != "auto" and not args.resume.endswith(".pth"):
        parser.error(f"--resume {args.resume}: expected a .pth file; put --resume last, or before another option")
    return args


@command
def main() -> None:
    """Parse, launch, train."""
    args = parse()
    cfg = load_config(args.cfg, args.overrides)
    launch_if_asked(args.gpus, sys.argv)
    with process_group(args.device) as world:
        if args.profile:
            report = profile_training(cfg, world)
            if world.is_main:
                print(report)
            return
        scores = train(cfg, world, args.resume)
        if world.is_main and scores:
            print(f"{cfg.DATASET.VAL}: " + ", ".join(f"{name} {100 * value:.1f}" for name, value in scores.items()))


if __name__ == "__main__":
    main()
