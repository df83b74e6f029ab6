"""Fit the suppression of poses to a validation split: two parameters at a time, for the AP of results.

python tools/fit_nms.py results_val.json --cfg config/synthetic/ce_small.yaml --split val --preset paper --out nms.yaml
python tools/fit_nms.py scale_1.json scale_2.json --schema datasets/crowdpose.yaml --split val --out nms.yaml

Several results files are fitted merged. The file that is written is for tools/nms.py --preset and for TEST.POSE_NMS. A
split that results are reported on is refused without TRAIN.SELECT_ON_TEST True.
"""

import argparse
from pathlib import Path

from tqdm import tqdm

from coupled_embedding.builders import annotations_of, build_schema, check_not_held_out
from coupled_embedding.config import load_config
from coupled_embedding.evaluation import (
    build_pose_nms,
    chosen_parameters,
    fit_nms,
    load_ground_truth,
    pose_nms_text,
    read_results,
)
from coupled_embedding.utils.atomic import atomic_write, check_new
from coupled_embedding.utils.cli import command
from coupled_embedding.utils.errors import UserError


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", help="results files of the split")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--cfg", help="config file, whose data set it is")
    source.add_argument("--schema", help="schema of the data set")
    parser.add_argument("--split", help="split to fit to (default: the config's DATASET.VAL)")
    parser.add_argument("--preset", default="paper", metavar="NAME|FILE", help="where to start (default: %(default)s)")
    parser.add_argument(
        "--parameters", nargs="+", default=[], metavar="NAME=VALUE", help="values over the preset's, such as eta=20"
    )
    parser.add_argument("--out", required=True, type=Path, help="the YAML file to write; must not exist")
    parser.add_argument(
        "--options", dest="overrides", nargs="*", default=[], metavar="KEY VALUE", help="config options to change"
    )
    return parser.parse_args()


@command
def main() -> None:
    """Read, fit, write."""
    args = parse()
    check_new(args.out)
    if args.out.suffix not in (".yaml", ".yml"):
        raise UserError(f"--out: {args.out}: expected a name that ends in .yaml")
    schema_option = ["DATASET.SCHEMA", args.schema] if args.schema else []
    cfg = load_config(args.cfg, [*schema_option, *args.overrides])
    schema = build_schema(cfg)
    split = args.split or (cfg.DATASET.VAL if args.cfg else "")
    if not split:
        raise UserError(f"--split: which one of {', '.join(schema.splits) or 'none'}?")
    for line in check_not_held_out(cfg, schema, split, "parameters"):
        print(line)
    nms = build_pose_nms(args.preset, schema.sigmas, args.parameters)
    truth = load_ground_truth(annotations_of(cfg, schema, split), schema, cfg.DATASET.IMAGE_IDS or None)
    results = [entry for path in args.results for entry in read_results(path, schema)]
    with tqdm(desc="fit", unit=" tried") as bar:

        def progress(ap: float) -> None:
            bar.set_postfix_str(f"AP {100 * ap:.2f}", refresh=False)
            bar.update()

        source = ", ".join(args.results)
        fit = fit_nms(nms, results, truth, schema, cfg.TEST.OKS_BACKEND, source, progress=progress)
    before, after = f"{100 * fit.before:.2f}", f"{100 * fit.after:.2f}"
    line = f"AP on {schema.name} {split}: {100 * fit.unsuppressed:.2f} as given, {before} before the fit, {after} after"
    preset, _ = chosen_parameters(args.preset, args.parameters, "--parameters")
    text = pose_nms_text(preset, fit.nms, f"fitted by tools/fit_nms.py: {line}")
    atomic_write(args.out, text, "the fitted suppression")
    print(f"{line} ({fit.tried} tried)\n{args.out}:\n{text}")


if __name__ == "__main__":
    main()
