"""Say what limits a network on a data set: one page of plots and the figures behind it.

python tools/diagnose.py --cfg config/synthetic/ce_small.yaml
python tools/diagnose.py --weights models/ce_hrhrnet_w32_512.pth --split val2017 --every 10

Do the embeddings separate people in crowds? Is AP lost in finding joints or in grouping them?
Which joints are wrong, and how? docs/diagnosis.md has the definitions. Without --weights the
run's best.pth is used; without --cfg the checkpoint's own config.
"""

import argparse
from pathlib import Path

from tqdm import tqdm

from coupled_embedding.analysis.error_analysis import diagnose_task, write_diagnosis
from coupled_embedding.engine.evaluate import prepare_test
from coupled_embedding.evaluation import Scores
from coupled_embedding.utils.cli import command
from coupled_embedding.utils.distributed import process_group


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", help="config file (default: the checkpoint's own config)")
    parser.add_argument("--weights", help="checkpoint, ours or a released one")
    parser.add_argument("--split", help="split to look at (default: DATASET.TEST)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every Nth photo only")
    parser.add_argument("--out", help="folder for the page and figures (default: OUTPUT_DIR/NAME/diagnosis_SPLIT)")
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
    """Parse, look at every photo, print the scores of each run, write."""
    args = parse()
    with process_group(args.device) as world:
        task = prepare_test(args.cfg, args.weights, args.overrides, args.split, world)
        folder = Path(args.out) if args.out else task.folder.with_name(f"diagnosis_{task.split}")
        print(f"diagnosing {task.weights} on {task.schema.name} {task.split}", flush=True)
        with tqdm(total=len(task.records[:: args.every]), unit="photo", desc="diagnose") as bar:
            diagnosis = diagnose_task(task, args.every, bar.update)
        for run, values in diagnosis.runs.items():
            print(f"\n{run}\n{Scores(values).table()}")
        if told := task.bad_input.report("broken photos, left out", task.bad_input.problems, folder):
            print(f"\n{told}")
        page, figures = write_diagnosis(diagnosis, task, folder)
        print(f"\npage: {page}\nfigures: {figures}")


if __name__ == "__main__":
    main()
