"""Train and test an experiment with several seeds, one after another, and print mean ± standard deviation.

python tools/seeds.py --cfg config/synthetic/ce_small.yaml --seeds 3
python tools/seeds.py --model crowdpose_ce_hrhrnet_w32_512 --seeds 3 --gpus 8

Each seed has a folder of its own, NAME_seedS. If the command is stopped, run it again: seeds that are trained are not
trained again, and those tested with the same options not tested again. The table goes to OUTPUT_DIR/NAME_seeds.md too.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from coupled_embedding.utils.atomic import atomic_write
from coupled_embedding.utils.cli import command
from coupled_embedding.utils.errors import UserError
from coupled_embedding.zoo.records import RunRecord
from coupled_embedding.zoo.run_specs import add_model_options, check_choice, spec_of_test, spec_of_training
from coupled_embedding.zoo.seeds import find_record, is_trained, seed_options, seeds_table

TOOLS = Path(__file__).resolve().parent


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_options(parser)
    parser.add_argument("--seeds", type=int, default=3, metavar="K", help="how many (%(default)s)")
    parser.add_argument("--first", type=int, default=1, metavar="S", help="the first seed (%(default)s)")
    parser.add_argument("--split", help="split to test (default: DATASET.TEST)")
    parser.add_argument("--gpus", "--processes", type=int, default=1, help="ranks on this machine, one per GPU")
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
        raise UserError(f"{name} of {options[-1]} ended with {code} (above); the same command continues from here")


def run_seed(args: argparse.Namespace, name: str, seed: int) -> RunRecord:
    """Train and test one seed, as far as that is not done yet; return the test's record."""
    options = seed_options(name, seed)
    seed_args = argparse.Namespace(**{**vars(args), "overrides": [*args.overrides, *options], "weights": None})
    train = spec_of_training(seed_args)
    folder = train.describe().folder
    if not is_trained(train):
        print(f"seed {seed}: training in {folder}", flush=True)
        run_tool("train.py", args, options, "--resume")
    test = spec_of_test(seed_args)  # finds a card's weights, which only the training makes
    info = test.describe()
    path = info.folder / f"test_{args.split or info.test}" / "record_test.json"
    record = find_record(path, train, test)
    if record is None:
        print(f"seed {seed}: testing", flush=True)
        run_tool("test.py", args, options, *(["--split", args.split] if args.split else []))
        record = find_record(path, train, test)
    if record is None:
        raise UserError(f"{path}: test.py left no record of {folder}")
    if not record.metrics:
        raise UserError(f"{path}: the annotations of {record.protocol.tested_on} are not public: nothing to average")
    return record


@command
def main() -> None:
    """Run all seeds, print the table."""
    args = parse()
    info = spec_of_training(args).describe()
    records = [run_seed(args, info.name, seed) for seed in range(args.first, args.first + args.seeds)]
    table, splits = seeds_table(records), records[0].splits
    path = info.folder.with_name(f"{info.name}_seeds.md")
    atomic_write(path, f"{splits}\n\n{table}\n", "the table")
    print(f"\n{splits} ({path})\n\n{table}")


if __name__ == "__main__":
    main()
