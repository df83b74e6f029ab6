"""Walk through a data set in a browser: annotated people, predictions, heatmaps, tags, and what is wrong.

python tools/browse.py --weights outputs/synthetic_ce_small/best.pth
python tools/browse.py --weights FILE --split val --results results.json
python tools/browse.py --cfg config/synthetic/ce_small.yaml --split train

(coupled-embedding browse is the same.) The first predicts the images one after the other; with --results their people
come from a file, at once. Without weights and results the annotated people alone are shown. Ctrl-C ends it.
"""

import argparse
from pathlib import Path

from coupled_embedding.browse.collection import Collection
from coupled_embedding.browse.predictions import FilePredictions, NetworkPredictions
from coupled_embedding.builders import annotations_of, build_eval_job, build_policy, build_records, build_schema
from coupled_embedding.config import load_config
from coupled_embedding.evaluation import load_ground_truth
from coupled_embedding.serve.command import check_packages, listen, run_server, url_of
from coupled_embedding.utils.cli import command
from coupled_embedding.utils.distributed import DistEnv, process_group
from rendering import find_test, render_missing


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", help="config file (default: the checkpoint's own config)")
    parser.add_argument("--weights", help="checkpoint, ours or a released one; a run's folder; a shipped model's name")
    parser.add_argument("--results", help="results file whose people are shown (default: those that the weights find)")
    parser.add_argument("--split", default="", help="split to show (default: DATASET.TEST)")
    parser.add_argument("--port", type=int, default=8766, help="of 127.0.0.1; 0: any free one (default: 8766)")
    parser.add_argument("--device", default="", choices=["", "cpu", "cuda"], help="default: a GPU where there is one")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="config options to change")
    args = parser.parse_args()
    if not (args.cfg or args.weights or "DATASET.SCHEMA" in args.overrides):
        parser.error("give --cfg, --weights, or DATASET.SCHEMA FILE")
    return args


def collect(args: argparse.Namespace, env: DistEnv) -> tuple[Collection, NetworkPredictions | None, str]:
    """Read the data set, and the network or the results; return images, network, and a title."""
    weights: Path | None = None
    if args.weights:
        cfg, weights = find_test(args.cfg, args.weights, args.overrides, args.split)
    else:
        cfg = load_config(args.cfg, args.overrides)
    split = args.split or cfg.DATASET.TEST
    if args.cfg or weights:
        render_missing(cfg, {split})
    network, max_detections = None, cfg.TEST.MAX_DETECTIONS
    if weights:
        job = build_eval_job(cfg, weights, split, env)
        print(*job.warnings, sep="\n", end="\n" if job.warnings else "")
        schema, records, network = job.schema, job.records, NetworkPredictions(job)
    else:
        schema, policy = build_schema(cfg), build_policy(cfg, training=False)
        records = build_records(cfg, schema, split, policy)
    ids = [record.image_id for record in records]
    truth = load_ground_truth(annotations_of(cfg, schema, split), schema, ids)
    predictions = FilePredictions(args.results, truth, schema) if args.results else network
    shown = " · ".join(filter(None, (f"{schema.name} {split}", str(weights or ""), str(args.results or ""))))
    return Collection(records, truth, schema, predictions, max_detections), network, shown


@command
def main() -> None:
    """Read, listen, and answer until Ctrl-C."""
    args = parse()
    check_packages("browse")
    from coupled_embedding.browse.app import create_app

    with process_group(args.device) as env, listen("127.0.0.1", args.port) as listener:
        collection, network, title = collect(args, env)
        app = create_app(collection, title, network)
        print(f"{title}: {len(collection.records)} images at {url_of(listener)} (Ctrl-C ends it)", flush=True)
        run_server(app, listener)


if __name__ == "__main__":
    main()
