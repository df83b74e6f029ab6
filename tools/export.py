"""Export a network to a folder that runs without this library: ONNX, a NumPy decoder, a small predict.py.

python tools/export.py --weights outputs/synthetic_ce_small/best.pth --out exported --images folder \\
    TEST.GROUPING tags TEST.SCALES "[1.0]"
python tools/export.py --weights best.pth --out exported --fp16 --int8 folder_of_images --evaluate
python exported/predict.py image.jpg

After writing, the exported model is compared with the library on the images: the same people, or an error. KEY VALUE
pairs at the end change options of the checkpoint's config, such as TEST.FLIP False.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from coupled_embedding.builders import LoadedModel, build_eval_job, build_pipeline_options, load_model
from coupled_embedding.config import override
from coupled_embedding.data.images import read_image
from coupled_embedding.decode.pipeline import InferencePipeline, PipelineOptions
from coupled_embedding.engine.evaluate import evaluate
from coupled_embedding.export.check import MAX_SHARE_OFF, compare, score_exported
from coupled_embedding.export.describe import describe
from coupled_embedding.export.graph import DTYPES, ExportGraph
from coupled_embedding.export.licenses import licenses_of
from coupled_embedding.export.load import load_exported
from coupled_embedding.export.quantize import quantize_int8
from coupled_embedding.export.write import Formats, new_folder, write_description, write_models, write_programs
from coupled_embedding.utils.cli import command
from coupled_embedding.utils.distributed import process_group
from coupled_embedding.utils.errors import UserError
from rendering import render_missing

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
MOST_CHECKED, MOST_CALIBRATED = 25, 200


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, type=Path, help="checkpoint of this package")
    parser.add_argument("--out", required=True, type=Path, help="folder to write to, new or empty")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help=f"to check on (at most {MOST_CHECKED} of them)")
    parser.add_argument("--no-flip", action="store_true", help="without the flipped image: half the time, a lower AP")
    parser.add_argument("--input", default="uint8", choices=list(DTYPES), help="type of the input's values, 0 to 255")
    parser.add_argument("--pt2", action="store_true", help="also write model.pt2, for torch.export.load")
    parser.add_argument("--fp16", action="store_true", help="also write model.fp16.onnx")
    parser.add_argument("--int8", type=Path, metavar="FOLDER", help="also write model.int8.onnx, calibrated on images")
    parser.add_argument(
        "--evaluate", nargs="?", const="", metavar="SPLIT", help="print the AP of each (default: DATASET.TEST)"
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="config options to change")
    return parser.parse_args()


def read_images(folder: Path, most: int) -> list[NDArray[np.uint8]]:
    """Read images of a folder, evenly spaced where they are too many; UserError if there are none."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS) if folder.is_dir() else []
    if not paths:
        raise UserError(f"{folder}: no folder with images (looked for {', '.join(sorted(EXTENSIONS))})")
    chosen = np.linspace(0, len(paths) - 1, min(most, len(paths))).round().astype(int)
    return [read_image(paths[number]) for number in chosen]


def generated_images() -> list[NDArray[np.uint8]]:
    """Return smooth noise, for a check without images."""
    random = np.random.default_rng(0)
    coarse = [random.integers(0, 256, (size // 16, 20, 3), np.uint8) for size in (192, 320, 480)]
    return [np.asarray(cv2.resize(part, None, fx=16, fy=16), np.uint8) for part in coarse]


def check(model: LoadedModel, options: PipelineOptions, input_size: int, args: argparse.Namespace) -> None:
    """Compare the written files with the library and print how they differ; an error if model.onnx finds others."""
    images = read_images(args.images, MOST_CHECKED) if args.images else generated_images()
    print(
        f"checking on {f'images of {args.images}' if args.images else 'noise; --images FOLDER checks on real images'}"
    )
    network = model.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pipeline = InferencePipeline(network, options)
    for path in sorted(args.out.glob("*.onnx"), key=lambda path: path.name != "model.onnx"):
        comparison = compare(load_exported(path, threads=1), pipeline, input_size, images)
        print(f"{path.name}: {comparison.describe()}", flush=True)
        if path.name == "model.onnx":
            # rounding errors decide more in noise
            comparison.raise_if_different(MAX_SHARE_OFF if args.images else 1.0)


def print_scores(args: argparse.Namespace, overrides: list[str], model: LoadedModel) -> None:
    """Print the scores of the library and of each file on a split."""
    cfg = override(model.cfg, overrides)
    with process_group("cpu") as env:
        split = args.evaluate or cfg.DATASET.TEST
        render_missing(cfg, {split})
        job = build_eval_job(cfg, args.weights, split, env)
        rows = {"library": evaluate(job, env, progress=True).scores}
        if rows["library"] is None:
            raise UserError(f"--evaluate {split}: the annotations of this split are not public; choose another one")
        for path in sorted(args.out.glob("*.onnx"), key=lambda path: path.name != "model.onnx"):
            bar = tqdm(job.records, desc=path.name, unit="image")
            rows[path.name] = score_exported(load_exported(path), job, bar)
    print(f"\n{len(job.records)} images of {job.schema.name} {split}:\n")
    for name, scores in rows.items():
        assert scores is not None
        print(f"{name}\n{scores.table()}\n")


@command
def main() -> None:
    """Write, check, evaluate."""
    args = parse()
    model = load_model(args.weights)
    overrides = [*args.overrides, "TEST.PRECISION", "fp32", *(["TEST.FLIP", "False"] if args.no_flip else [])]
    cfg = override(model.cfg, overrides)
    options, formats = build_pipeline_options(cfg, model.schema), Formats(args.input, args.pt2, args.fp16)
    graphs = {"model.onnx": ExportGraph(model.network, options).eval()}
    if args.fp16:
        graphs["model.fp16.onnx"] = ExportGraph(model.network, options, half=True).eval()
    calibration = read_images(args.int8, MOST_CALIBRATED) if args.int8 else []
    about = describe(options, model.schema, cfg.DATASET.INPUT_SIZE, cfg.NAME, model.metrics, model.network.place_dims)
    folder = new_folder(args.out)
    write_models(folder, graphs, formats)
    write_description(folder, about)
    if args.int8:
        quantize_int8(folder, calibration)
    write_programs(folder, about, formats, licenses_of(args.weights))
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    print(f"{folder}: " + ", ".join(f"{name} ({size / 2**20:.1f} MiB)" for name, size in sizes.items()), flush=True)
    check(model, replace(options, fold_bn=False), cfg.DATASET.INPUT_SIZE, args)
    if args.evaluate is not None:
        print_scores(args, overrides, model)


if __name__ == "__main__":
    main()
