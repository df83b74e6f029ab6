"""Train and test an experiment with several seeds, one after another, and print mean ± standard deviation.

python tools/seeds.py --cfg config/synthetic/ce_small.yaml --seeds 3
python tools/seeds.py --model crowdpose_ce_hrhrnet_w32_512 --seeds 3 --gpus 8

Each seed has a folder of its own, NAME_seedS. Stopped, the same command goes on where it was: what is trained is not
trained again, what is tested with the same options not tested again. The table goes to OUTPUT_DIR/NAME_seeds.md too.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from coupled_embedding.utils.atomic import write_whole
from coupled_embedding.utils.cli import command
from coupled_embedding.utils.errors import UserError
from coupled_embedding.zoo.jobs import add_model_options, check_choice, job_of_test, job_of_training
from coupled_embedding.zoo.records import RunRecord
from coupled_embedding.zoo.seeds import SeedRun, seed_options, seeds_table

TOOLS = Path(__file__).resolve().parent


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_options(parser)
    parser.add_argument("--seeds", type=int, default=3, metavar="K", help="how many (%(default)s)")
    parser.add_argument("--first", type=int, default=1, metavar="S", help="the first one (%(default)s)")
    parser.add_argument("--split", help="split to test (default: DATASET.TEST)")
    parser.add_argument("--gpus", "--processes", type=int, default=1, help="processes on this machine, one a GPU")
    parser.add_argument("--device", default="", choices=["", "cpu", "cuda"], help="default: a GPU where there is one")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="config options to change")
    args = parser.parse_args()
    check_choice(parser, args, ["cfg", "model"])
    if args.seeds < 1 or args.first < 0:
        parser.error(f"--seeds {args.seeds} --first {args.first}: at least 1 and 0")
    return args


def run_tool(name: str, args: argparse.Namespace, options: list[str], *more: str) -> None:
    """Run a command with the same options; UserError if it fails."""
    chosen = ["--cfg", args.cfg] if args.cfg else ["--model", args.model, "--protocol", args.protocol]
    machine = ["--gpus", str(args.gpus), *(["--device", args.device] if args.device else [])]
    call = [sys.executable, str(TOOLS / name), *chosen, *more, *machine, *args.overrides, *options]
    process = subprocess.Popen(call)
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if code:
        raise UserError(f"{name} of {options[-1]} ended with {code} (above); the same command goes on from here")


def run_seed(args: argparse.Namespace, name: str, seed: int) -> RunRecord:
    """Train and test one seed, as far as that is still to do; return the test's record."""
    options = seed_options(name, seed)
    args_of_seed = argparse.Namespace(**{**vars(args), "overrides": [*args.overrides, *options], "weights": None})
    train = job_of_training(args_of_seed)
    cfg = train.load()
    folder = Path(cfg.OUTPUT_DIR) / cfg.NAME

    def run_of_seed() -> SeedRun:
        # a card's weights can be found only after the training
        test = job_of_test(args_of_seed)
        cfg = test.load()
        split = args.split or cfg.DATASET.TEST
        record = Path(cfg.OUTPUT_DIR) / cfg.NAME / f"test_{split}" / "record_test.json"
        return SeedRun(seed, train, test, folder, record)

    if not SeedRun(seed, train, train, folder, folder).is_trained():
        print(f"seed {seed}: training in {folder}", flush=True)
        run_tool("train.py", args, options, "--resume")
    run = run_of_seed()
    if run.tested() is None:
        print(f"seed {seed}: testing", flush=True)
        run_tool("test.py", args, options, *(["--split", args.split] if args.split else []))
    record = run.tested()
    if record is None:
        raise UserError(f"{run.record}: test.py left no record of {folder}")
    if not record.figures:
        raise UserError(
            f"{run.record}: the annotations of {record.protocol.tested_on} are not public: nothing to average"
        )
    return record


@command
def main() -> None:
    """Run all seeds, print the table."""
    args = parse()
    cfg = job_of_training(args).load()
    records = [run_seed(args, cfg.NAME, seed) for seed in range(args.first, args.first + args.seeds)]
    table = seeds_table(records)
    path = Path(cfg.OUTPUT_DIR) / f"{cfg.NAME}_seeds.md"
    write_whole(path, f"{records[0].splits}\n\n{table}\n", "the table")
    print(f"\n{records[0].splits} ({path})\n\n{table}")


if __name__ == "__main__":
    main()
