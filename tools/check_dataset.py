"""Validate a data set before days are spent on it: every annotation, every image.

python tools/check_dataset.py --cfg config/coco/ce_hrhrnet_w32_512.yaml --split train2017
python tools/check_dataset.py --schema my_people.yaml --root /data/my_people --split all --annotations-only

Prints counts and warnings of what is invalid or looks wrong, and leaves check.json (everything) and
check.png (histograms) in --out. The exit code is 0 without warnings, 1 with some, 2 when the data set
could not be validated.
"""

import argparse
import json
import sys
from pathlib import Path

from tqdm import tqdm

from coupled_embedding.analysis.dataset_validation import (
    SplitValidation,
    as_json,
    as_text,
    plot_statistics,
    validate_split,
)
from coupled_embedding.builders import build_schema
from coupled_embedding.config import load_config
from coupled_embedding.utils.atomic import atomic_write
from coupled_embedding.utils.cli import command
from coupled_embedding.utils.errors import UserError
from coupled_embedding.visualize import save_figure
from rendering import render_missing


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--cfg", help="config file, whose data set is checked")
    source.add_argument("--schema", help="schema of the data set")
    parser.add_argument("--root", help="folder of the data set (default: the config's or the schema's)")
    parser.add_argument("--split", help="split to check (default: the config's DATASET.TRAIN)")
    parser.add_argument("--annotations-only", action="store_true", help="leave the images alone")
    parser.add_argument("--workers", type=int, default=2, help="processes that read images (%(default)s)")
    parser.add_argument("--out", type=Path, help="folder for check.json and check.png (default: outputs/check_…)")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="config options to change")
    args = parser.parse_args()
    if not 0 <= args.workers <= 256:
        parser.error(f"--workers {args.workers}: expected 0 to 256")
    return args


def plotted(validation: SplitValidation, path: Path) -> str:
    """Save the histograms and return where; a plot that fails must not cost the report."""
    try:
        save_figure(path, plot_statistics(validation))
    except UserError:
        raise
    except Exception as error:
        return f"; warning: the histograms could not be drawn ({type(error).__name__}: {error})"
    return f"; histograms: {path}"


@command
def main() -> None:
    """Validate, print, write."""
    args = parse()
    chosen = {"DATASET.SCHEMA": args.schema, "DATASET.ROOT": args.root}
    options = [text for name, value in chosen.items() if value for text in (name, value)]
    cfg = load_config(args.cfg, args.overrides + options)
    schema = build_schema(cfg)
    split = args.split or (cfg.DATASET.TRAIN if args.cfg else next(iter(schema.splits), ""))
    if args.cfg:
        render_missing(cfg, {split})
    data = (schema, split, cfg.DATASET.ROOT, cfg.DATASET.IMAGE_IDS, not args.annotations_only, args.workers)
    with tqdm(unit="image", desc="images", disable=args.annotations_only) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        validation = validate_split(*data, show)
    print(as_text(validation))
    folder = args.out or Path(cfg.OUTPUT_DIR) / f"check_{schema.name}_{split}"
    atomic_write(folder / "check.json", json.dumps(as_json(validation), indent=1), "the warnings")
    print(f"everything: {folder / 'check.json'}{plotted(validation, folder / 'check.png')}")
    sys.exit(1 if validation.warnings else 0)


if __name__ == "__main__":
    main()
