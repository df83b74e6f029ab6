"""Score a results file by its benchmark's rules, without a network.

python tools/score.py results.json --cfg config/coco/ce_hrhrnet_w32_512.yaml
python tools/score.py results.json --schema datasets/crowdpose.yaml --split test
python tools/score.py results.json --schema my_people.yaml --annotations my_annotations.json

The results are a list in COCO's format, of this or of any other program: image_id, category_id,
keypoints (x, y, score of each joint) and score. --out writes the scores as JSON, too.
"""

import argparse
import json
from pathlib import Path

from coupled_embedding.builders import annotations_of, build_schema
from coupled_embedding.config import load_config
from coupled_embedding.evaluation import evaluate_keypoints, read_results
from coupled_embedding.evaluation.plausibility import file_warnings, results_warnings
from coupled_embedding.utils.atomic import atomic_write
from coupled_embedding.utils.cli import command
from coupled_embedding.utils.errors import UserError


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", help="results file")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--cfg", help="config file, whose data set is scored")
    source.add_argument("--schema", help="schema of the data set")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--split", help="split (default: the config's DATASET.TEST)")
    place.add_argument("--annotations", help="annotation file, instead of a split's")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the scores there as JSON")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="config options to change")
    return parser.parse_intermixed_args()


@command
def main() -> None:
    """Read, score, print."""
    args = parse()
    schema_option = ["DATASET.SCHEMA", args.schema] if args.schema else []
    cfg = load_config(args.cfg, [*schema_option, *args.overrides])
    schema = build_schema(cfg)
    split = args.split or (cfg.DATASET.TEST if args.cfg else "")
    if not split and not args.annotations:
        raise UserError(f"--split: which one of {', '.join(schema.splits) or 'none'}? Or give --annotations FILE")
    annotations = args.annotations or annotations_of(cfg, schema, split)
    results = read_results(args.results, schema)
    options = (cfg.DATASET.IMAGE_IDS or None, cfg.TEST.OKS_BACKEND, args.results)
    scores = evaluate_keypoints(annotations, results, schema, *options)
    file = Path(annotations)
    for line in file_warnings(file, schema) + results_warnings(results, file, schema):
        print(f"warning: {line}")
    print(f"{len(results)} people in {args.results}, scored by the rules of {schema.evaluator} on {annotations}\n")
    print(scores.table())
    if args.out:
        atomic_write(args.out, json.dumps(scores.to_dict(), indent=2) + "\n", "the scores")


if __name__ == "__main__":
    main()
