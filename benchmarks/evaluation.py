"""Time both OKS backends against pycocotools alone: from two files, annotations and results, to the scores.

python benchmarks/evaluation.py [--quick] [--json PATH]
"""

import copy
import io
import json
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from common import ROOT, Record, arguments, report
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from coupled_embedding.data.schema import KeypointSchema, load_schema
from coupled_embedding.evaluation import evaluate_keypoints, read_results
from coupled_embedding.evaluation.keypoint_ap import crowd_bands

PEOPLE = 20  # annotated and detected per image: as many as both benchmarks count


def write_made_up_files(folder: Path, schema: KeypointSchema, image_count: int) -> tuple[Path, Path]:
    """Write annotations and results of crowds: small and large people, crowd regions, good and bad poses."""
    random = np.random.default_rng(0)
    images, annotations, results = [], [], []
    shape = (PEOPLE, schema.num_joints, 1)
    for image_id in range(1, image_count + 1):
        images.append({"id": image_id, "crowdIndex": round(random.random(), 2)})
        corners, sizes = random.uniform(0, 400, (PEOPLE, 1, 2)), random.uniform(25, 240, (PEOPLE, 1, 2))
        points = np.round(corners + random.random((*shape[:2], 2)) * sizes)
        labels = random.choice([0, 1, 2], shape, p=[0.25, 0.15, 0.6])
        true = np.concatenate((points, labels), 2).astype(int).reshape(PEOPLE, -1).tolist()
        noise = random.choice([0.02, 0.05, 0.1, 0.3], (PEOPLE, 1, 1)) * sizes
        found = np.concatenate((random.normal(points, noise), random.random(shape)), 2).reshape(PEOPLE, -1).tolist()
        boxes = np.concatenate((corners, sizes), 2)[:, 0].round(2)
        for person, box in enumerate(boxes.tolist()):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "iscrowd": int(random.random() < 0.02),
                    "num_keypoints": int((labels[person] > 0).sum()),
                    "bbox": box,
                    "area": 0.6 * box[2] * box[3],
                    "keypoints": true[person],
                }
            )
            score = float(random.random())
            results.append({"image_id": image_id, "category_id": 1, "keypoints": found[person], "score": score})
    categories = [{"id": 1, "name": "person", "keypoints": list(schema.joints)}]
    truth_file, results_file = folder / "truth.json", folder / "results.json"
    truth_file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    results_file.write_text(json.dumps(results))
    return truth_file, results_file


def by_pycocotools(truth_file: Path, results_file: Path, schema: KeypointSchema) -> list[float]:
    """Score as the benchmarks' own programs do, with pycocotools as it is."""
    with redirect_stdout(io.StringIO()):
        truth = COCO(str(truth_file))
        if schema.evaluator == "crowdpose":
            for annotation in truth.dataset["annotations"]:
                annotation["area"] = annotation["bbox"][3] * annotation["bbox"][2] * 0.53
        found = truth.loadRes(str(results_file))
        everywhere = _evaluated(truth, found, schema, truth.getImgIds())
        if schema.evaluator == "coco":
            everywhere.summarize()
            return list(everywhere.stats)
        bands = crowd_bands({image["id"]: image["crowdIndex"] for image in truth.dataset["images"]})
        parts = [_evaluated(truth, found, schema, ids) for ids in bands.values()]
    curves = [everywhere.eval[name][..., 0, 0] for name in ("precision", "recall")]
    # mean, OKS 0.5 and OKS 0.75 of both, then the mean precision of each band
    scores = [float(part.mean()) for curve in curves for part in (curve, curve[0], curve[5])]
    return scores + [float(part.eval["precision"][..., 0, 0].mean()) for part in parts]


def _evaluated(truth: COCO, found: COCO, schema: KeypointSchema, image_ids: list[int]) -> COCOeval:
    evaluator = COCOeval(truth, found, "keypoints")
    evaluator.params.kpt_oks_sigmas = np.array(schema.sigmas)
    evaluator.params.imgIds = copy.copy(image_ids)
    if schema.evaluator == "crowdpose":
        evaluator.params.areaRng, evaluator.params.areaRngLbl = evaluator.params.areaRng[:1], ["all"]
    evaluator.evaluate()
    evaluator.accumulate()
    return evaluator


def measure(name: str, images: int) -> list[Record]:
    """Time our backends and pycocotools in turn on the same files and compare all scores."""
    schema = load_schema(ROOT / f"datasets/{name}.yaml")
    ways = {backend: partial(by_backend, backend) for backend in ("pycocotools", "fast")}
    with TemporaryDirectory() as folder:
        few = write_made_up_files(Path(folder), schema, 20)
        for way in (*ways.values(), by_pycocotools):
            way(*few, schema)  # to warm up
        files = write_made_up_files(Path(folder), schema, images)
        seconds, expected = timed(by_pycocotools, *files, schema)
        records = []
        for backend, way in ways.items():
            own_seconds, scores = timed(way, *files, schema)
            difference = max(abs(a - b) for a, b in zip(scores, expected, strict=True))
            case = f"{name}, {images} images x {PEOPLE} people, backend {backend}"
            figures = [round(1000 * s, 1) for s in (own_seconds, seconds)]
            records.append(Record(case, *figures, round(seconds / own_seconds, 2), difference))
    return records


def by_backend(backend: str, truth_file: Path, results_file: Path, schema: KeypointSchema) -> list[float]:
    """Score with this package."""
    results = read_results(results_file, schema)
    return list(evaluate_keypoints(truth_file, results, schema, backend=backend).values.values())


def timed(way: Callable[..., list[float]], *inputs: Any) -> tuple[float, list[float]]:
    """Return a call's processor seconds and its value."""
    start = time.process_time()
    scores = way(*inputs)
    return time.process_time() - start, scores


def main() -> None:
    """Measure and print."""
    args = arguments(__doc__)
    images = 200 if args.quick else 5000
    report([record for name in ("coco", "crowdpose") for record in measure(name, images)], args.json)


if __name__ == "__main__":
    main()
