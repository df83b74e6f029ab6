"""Measure identities on clips of the synthetic crowd: OKS alone against OKS × tags.

python benchmarks/tracking.py [--weights outputs/synthetic_ce_small/best.pth] [--clips 16]

The detections are the true joints with noise, with joints and people left out and with tags that are a random vector
of each person plus noise; with --weights also what a network finds, with the mean tags of its poses. Every clip counts
at its full rate of 12 frames per second and at 4. A detection fits a person from an OKS of 0.5 on, over the joints that
are seen. Scores are TrackEval's, of the `test` extra; the same on every run.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from trackeval.metrics import CLEAR, HOTA, Identity

from coupled_embedding.builders import load_predictor
from coupled_embedding.data.geometry import resize_geometry
from coupled_embedding.data.schema import load_schema
from coupled_embedding.data.test_dataset import warp_to_input
from coupled_embedding.evaluation import box_areas, oks_matrix
from coupled_embedding.predictor import Predictor
from coupled_embedding.tracking import Tracker, mean_tags_of
from coupled_embedding.visualize import filter_poses
from synthetic_crowd import ClipFrame, CrowdSettings, render_clip

Array = NDArray[np.floating]
ROOT = Path(__file__).resolve().parent.parent
SIGMAS = np.array(load_schema(ROOT / "datasets/synthetic.yaml").sigmas)
SETTINGS = CrowdSettings(256, 192, 3, 8)
SEED = 12  # the tracker's numbers were chosen on the clips of seed 11
FRAMES = 60
COLUMNS = ("IDF1", "MOTA", "switches", "HOTA", "AssA")


@dataclass(frozen=True)
class Detections:
    """What the tracker sees of a frame: keypoints (N, K, 3), scores (N,), boxes (N, 4), tags (N, D)."""

    keypoints: Array
    scores: Array
    boxes: Array
    tags: Array


def boxes_of(keypoints: Array) -> Array:
    """Return boxes (N, 4) x, y, width, height around the found joints of poses (N, K, 3)."""
    found = keypoints[..., 2:] > 0
    low = np.where(found, keypoints[..., :2], np.inf).min(1, initial=np.inf)
    high = np.where(found, keypoints[..., :2], -np.inf).max(1, initial=-np.inf)
    return np.concatenate([low, high - low], 1)


def noisy_truth(clip: Sequence[ClipFrame], rng: np.random.Generator, tag_noise: float = 0.2) -> list[Detections]:
    """Return the true people as a mediocre network might find them.

    Joints are off by normal noise with a deviation of σ · √area on each axis; a tenth of the people, a twentieth of
    the joints and seven tenths of the hidden joints are left out. Tags are unit vectors of 8 dimensions, off by
    `tag_noise`.
    """
    vectors: dict[int, Array] = {}
    result = []
    for frame in clip:
        keypoints = frame.scene.keypoints.astype(np.float64)
        scale = np.sqrt(box_areas(frame.scene.boxes))[:, None, None]
        noise = rng.normal(0, 1, keypoints[..., :2].shape) * SIGMAS[:, None] * scale
        draws = rng.random(keypoints.shape[:2])
        found = (keypoints[..., 2] > 0) & (draws > np.where(keypoints[..., 2] == 1, 0.7, 0.05))
        keypoints = np.concatenate([keypoints[..., :2] + noise, np.ones_like(scale * draws[..., None])], 2)
        keypoints = np.where(found[..., None], keypoints, 0.0)
        for person in frame.ids:
            if person not in vectors:
                vector = rng.normal(0, 1, 8)
                vectors[person] = vector / np.linalg.norm(vector)
        tags = np.array([vectors[person] for person in frame.ids]).reshape(-1, 8)
        tags = tags + rng.normal(0, tag_noise / np.sqrt(8), tags.shape)
        keep = (rng.random(len(keypoints)) > 0.1) & found.any(1)
        people = keypoints[keep]
        result.append(Detections(people, np.ones(len(people)), boxes_of(people), tags[keep]))
    return result


def predicted(clip: Sequence[ClipFrame], predictor: Predictor) -> list[Detections]:
    """Return what a network finds in each frame."""
    pipeline, result = predictor.pipeline, []
    for frame in clip:
        image = frame.scene.image
        geometry = resize_geometry((image.shape[1], image.shape[0]), predictor.input_size)
        inputs = [torch.from_numpy(warp_to_input(image, geometry, factor))[None] for factor in pipeline.options.scales]
        maps = pipeline.forward(inputs, geometry.base_size).cpu()
        poses = filter_poses(pipeline.decode(maps, [geometry])[0])
        keypoints = np.array([pose.keypoints for pose in poses]).reshape(-1, len(SIGMAS), 3)
        tags = mean_tags_of(keypoints, maps.image(0), geometry.base_size, geometry.to_input())
        result.append(Detections(keypoints, np.array([pose.score for pose in poses]), boxes_of(keypoints), tags))
    return result


def tracks_of(detections: Sequence[Detections], use_tags: bool, **options: float) -> list[NDArray[np.int64]]:
    """Return the ids of each frame."""
    tracker = Tracker(SIGMAS, **options)  # type: ignore[arg-type]
    return [tracker.update(d.keypoints, d.scores, d.boxes, d.tags if use_tags else None) for d in detections]


def sequence_of(
    true_ids: Sequence[Array], ids: Sequence[Array], similarities: Sequence[Array]
) -> dict[str, int | list[Array]]:
    """Return a clip as TrackEval's metrics take it: ids from 0 without gaps, (people, detections) of similarities."""
    parts: dict[str, int | list[Array]] = {"num_timesteps": len(ids), "similarity_scores": list(similarities)}
    for name, lists in (("gt", true_ids), ("tracker", ids)):
        known, flat = np.unique(np.concatenate(lists), return_inverse=True)
        parts[f"{name}_ids"] = np.split(flat, np.cumsum([len(part) for part in lists])[:-1])
        parts[f"num_{name}_ids"], parts[f"num_{name}_dets"] = len(known), len(flat)
    return parts


def scores_of(sequences: Sequence[dict[str, int | list[Array]]]) -> dict[str, float]:
    """Return percentages of IDF1, MOTA, HOTA and its association part, and the number of id switches, of all clips."""
    quiet = {"PRINT_CONFIG": False}
    results = []
    for metric in (Identity(quiet), CLEAR(quiet), HOTA()):
        results.append(metric.combine_sequences({n: metric.eval_sequence(s) for n, s in enumerate(sequences)}))
    identity, clear, hota = results
    shares = identity["IDF1"], clear["MOTA"], hota["HOTA"].mean(), hota["AssA"].mean()
    idf1, mota, of_hota, association = (round(100 * float(share), 1) for share in shares)
    return dict(zip(COLUMNS, (idf1, mota, int(clear["IDSW"]), of_hota, association), strict=True))


def evaluate(
    clips: Sequence[Sequence[ClipFrame]], detections: Sequence[Sequence[Detections]], use_tags: bool, **options: float
) -> dict[str, float]:
    """Track all clips and score the identities."""
    sequences = []
    for clip, found in zip(clips, detections, strict=True):
        similarities = []
        for frame, people in zip(clip, found, strict=True):
            seen = np.where(frame.scene.keypoints[..., 2:] == 2, frame.scene.keypoints, 0.0)
            similarities.append(oks_matrix(seen, box_areas(frame.scene.boxes), people.keypoints, SIGMAS))
        sequences.append(
            sequence_of([frame.ids for frame in clip], tracks_of(found, use_tags, **options), similarities)
        )
    return scores_of(sequences)


def rows(count: int, weights: Path | None) -> Iterator[dict[str, str | float]]:
    """Yield the table's rows."""
    clips = [list(render_clip(SETTINGS, SEED, index, FRAMES)) for index in range(count)]
    sources = {"true joints, noise": [noisy_truth(clip, np.random.default_rng(n)) for n, clip in enumerate(clips)]}
    if weights:
        predictor = load_predictor(weights)
        sources["network"] = [predicted(clip, predictor) for clip in clips]
    for name, found in sources.items():
        for step in (1, 3):
            for use_tags in (False, True):
                case = {"detections": name, "fps": 12 // step, "affinity": "OKS × tags" if use_tags else "OKS"}
                yield case | evaluate([c[::step] for c in clips], [f[::step] for f in found], use_tags)


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="checkpoint of a network of the synthetic crowd")
    parser.add_argument("--clips", type=int, default=16, help="number of clips (%(default)s)")
    parser.add_argument("--json", type=Path, help="write the records here")
    args = parser.parse_args()
    records = list(rows(args.clips, args.weights))
    titles = ["detections", "fps", "affinity", *COLUMNS]
    print("| " + " | ".join(titles) + " |\n| --- | --: | --- |" + " --: |" * len(COLUMNS))
    for record in records:
        print("| " + " | ".join(str(record[title]) for title in titles) + " |")
    if args.json:
        args.json.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
