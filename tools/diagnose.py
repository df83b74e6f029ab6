"""Say what limits a network on a data set: one page of plots and the figures behind it.

python tools/diagnose.py --cfg config/synthetic/ce_small.yaml
python tools/diagnose.py --weights models/ce_hrhrnet_w32_512.pth --split val2017 --every 10

Do the embeddings separate people in crowds? Is AP lost in finding joints or in grouping them?
Which joints are wrong, and how? docs/diagnosis.md has the definitions. Without --weights the
run's best.pth is used; without --cfg the checkpoint's own config.
"""

import argparse
import json
from pathlib import Path

from tqdm import tqdm

from coupled_embedding.commands import command
from coupled_embedding.data.prepare import annotations_of
from coupled_embedding.diagnosis import diagnose, observe, page
from coupled_embedding.diagnosis.observe import build_observe_settings
from coupled_embedding.distributed import process_group
from coupled_embedding.errors import DatasetError, UserError
from coupled_embedding.evaluation import Scores, load_ground_truth
from coupled_embedding.inference.estimator import PoseEstimator, build_estimator_settings
from coupled_embedding.testing import TestTask, prepare_test


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


def diagnose_task(task: TestTask, every: int) -> tuple[str, str]:
    """Return the page and the figures as JSON."""
    cfg, schema = task.cfg, task.schema
    records = task.records[::every]
    truth = load_ground_truth(annotations_of(cfg, schema, task.split), schema, [r.image_id for r in records])
    if not truth.annotated:
        raise DatasetError(f"{truth.path}: the file has no 'annotations'; diagnose a split whose people are public")
    estimator = PoseEstimator(task.network, build_estimator_settings(cfg, schema))
    settings = build_observe_settings(cfg, schema, estimator.settings.decode)
    with tqdm(total=len(records), unit="photo", desc="diagnose") as bar:
        findings = observe(estimator, records, settings, cfg.TEST.IMAGES_PER_BATCH, cfg.TEST.WORKERS, bar.update)
    diagnosis = diagnose(findings, records, truth, schema, cfg.TEST.ENGINE, cfg.TEST.MAX_DETECTIONS)
    for run, values in diagnosis.runs.items():
        print(f"\n{run}\n{Scores(values).table()}")
    about = f"{task.weights} · {schema.name} {task.split}"
    figures = {"name": cfg.NAME, "weights": str(task.weights), "data_set": schema.name, "split": task.split}
    text = json.dumps({**figures, **diagnosis.to_dict()}, indent=1, allow_nan=False) + "\n"
    return page(diagnosis, cfg.NAME, about), text


@command
def main() -> None:
    """Parse, look at every photo, write."""
    args = parse()
    with process_group(args.device) as world:
        task = prepare_test(args.cfg, args.weights, args.overrides, args.split, world)
        folder = Path(args.out) if args.out else task.folder.with_name(f"diagnosis_{task.split}")
        html, figures = diagnose_task(task, args.every)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "diagnosis.html").write_text(html, encoding="utf-8")
            (folder / "diagnosis.json").write_text(figures, encoding="utf-8")
        except OSError as error:
            raise UserError(f"{folder}: cannot write the page there: {error}") from error
        print(f"\npage: {folder / 'diagnosis.html'}, figures: {folder / 'diagnosis.json'}")


if __name__ == "__main__":
    main()
