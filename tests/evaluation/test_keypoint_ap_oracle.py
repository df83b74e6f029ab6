"""AP and AR against loops that follow the benchmarks' definition, on small random data."""

import json
import math

import numpy as np
import pytest

from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.evaluation import evaluate_keypoints

THRESHOLDS = [0.5 + 0.05 * i for i in range(10)]
AREAS = {"": (0, 1e10), "_M": (32**2, 96**2), "_L": (96**2, 1e10)}
JOINTS = 3


def schema(evaluator):
    names = tuple(f"joint{i}" for i in range(JOINTS))
    return KeypointSchema("tiny", names, (), (), (0.05, 0.08, 0.1), (0, 1, 2), ((0, 0, 0),) * JOINTS, evaluator)


def similarity(truth, found, sigmas):
    """OKS; for a region without labels, the distance to its doubled box replaces that of each joint."""
    joints = list(zip(*[iter(truth["keypoints"])] * 3))
    guesses = list(zip(*[iter(found["keypoints"])] * 3))
    labelled = [j for j in range(JOINTS) if joints[j][2] > 0]
    x, y, width, height = truth["bbox"]
    total = 0.0
    for j in labelled or range(JOINTS):
        u, v, _ = guesses[j]
        if labelled:
            dx, dy = u - joints[j][0], v - joints[j][1]
        else:
            dx = max(0, x - width - u) + max(0, u - x - 2 * width)
            dy = max(0, y - height - v) + max(0, v - y - 2 * height)
        total += math.exp(-(dx**2 + dy**2) / (2 * truth["area"] * (2 * sigmas[j]) ** 2))
    return total / (len(labelled) or JOINTS)


def match(truths, founds, threshold, limits, sigmas):
    """Return [(score, is hit)] of the detections that count, and how many people count."""
    low, high = limits
    for truth in truths:
        inside = low <= truth["area"] <= high
        truth["ignored"] = bool(truth["iscrowd"]) or truth["num_keypoints"] == 0 or not inside
    taken, outcome = set(), []
    for found in sorted(founds, key=lambda f: -f["score"])[:20]:
        best = {False: (threshold, None), True: (threshold, None)}  # of people that count, of ignored ones
        for index, truth in enumerate(truths):
            value = similarity(truth, found, sigmas)
            if (index not in taken or truth["iscrowd"]) and value >= best[truth["ignored"]][0]:
                best[truth["ignored"]] = (value, index)
        hit, ignored = best[False][1], best[True][1]
        if hit is not None:
            taken.add(hit)
            outcome.append((found["score"], True))
        elif ignored is not None:
            taken.add(ignored)
        elif low <= extent(found) <= high:
            outcome.append((found["score"], False))
    return outcome, sum(not truth["ignored"] for truth in truths)


def extent(found):
    xs, ys = found["keypoints"][0::3], found["keypoints"][1::3]
    return (max(xs) - min(xs)) * (max(ys) - min(ys))


def precision_and_recall(images, threshold, limits, sigmas):
    outcome, people = [], 0
    for truths, founds in images:
        more, count = match(truths, founds, threshold, limits, sigmas)
        outcome, people = outcome + more, people + count
    if not people:
        return math.nan, math.nan
    hits, points = 0, []
    for rank, (_, is_hit) in enumerate(sorted(outcome, key=lambda o: -o[0]), start=1):
        hits += is_hit
        points.append((hits / people, hits / rank))
    levels = [max((p for r, p in points if r >= level - 1e-12), default=0.0) for level in np.linspace(0, 1, 101)]
    return sum(levels) / 101, hits / people


def mean_scores(images, limits, sigmas):
    both = [precision_and_recall(images, t, limits, sigmas) for t in THRESHOLDS]
    (ap, ar), at50, at75 = np.mean(both, axis=0), both[0], both[5]
    return {"AP": ap, "AP50": at50[0], "AP75": at75[0], "AR": ar, "AR50": at50[1], "AR75": at75[1]}


def oracle(content, results, rules):
    sigmas = rules.sigmas
    if rules.evaluator == "crowdpose":
        for truth in content["annotations"]:
            truth["area"] = 0.53 * truth["bbox"][2] * truth["bbox"][3]
    by_image = {
        image["id"]: tuple(
            [a for a in items if a["image_id"] == image["id"]] for items in (content["annotations"], results)
        )
        for image in content["images"]
    }
    scores = mean_scores(by_image.values(), AREAS[""], sigmas)
    if rules.evaluator == "coco":
        for suffix in ("_M", "_L"):
            part = mean_scores(by_image.values(), AREAS[suffix], sigmas)
            scores |= {f"AP{suffix}": part["AP"], f"AR{suffix}": part["AR"]}
        return scores
    for band, low, high in (("easy", -1, 0.2), ("medium", 0.2, 0.8), ("hard", 0.8, 9)):
        ids = [image["id"] for image in content["images"] if low <= image["crowdIndex"] < high]
        scores[f"AP_{band}"] = mean_scores([by_image[i] for i in ids], AREAS[""], sigmas)["AP"]
    return scores


def random_scene(seed):
    """Several small images: crowd regions, people without labels, misses, strays, duplicates, over 20 detections."""
    rng = np.random.default_rng(seed)
    images, annotations, results = [], [], []
    for image_id in range(1, rng.integers(2, 8)):
        # the limits themselves belong to the upper band
        images.append({"id": image_id, "crowdIndex": float(rng.choice([0.0, 0.1, 0.2, 0.5, 0.8, 1.0]))})
        founds = []
        for _ in range(rng.integers(0, 5)):
            low, size = rng.uniform(0, 200, 2), rng.uniform(15, 250, 2)
            points = low + rng.uniform(0, 1, (JOINTS, 2)) * size
            labels = rng.integers(0, 3, (JOINTS, 1))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "bbox": [*low.tolist(), *size.tolist()],
                    "area": float(size.prod() * rng.uniform(0.3, 0.8)),
                    "iscrowd": int(rng.random() < 0.15),
                    "num_keypoints": int((labels > 0).sum()),
                    "keypoints": np.hstack([points, labels]).ravel().tolist(),
                }
            )
            noise = rng.choice([0.01, 0.05, 0.3])
            founds += [points + rng.normal(0, noise, points.shape) * size for _ in range(rng.integers(0, 3))]
        founds += list(rng.uniform(0, 300, (rng.choice([0, 1, 25], p=[0.6, 0.3, 0.1]), JOINTS, 2)))
        for points in founds:
            keypoints = np.hstack([points, np.ones((JOINTS, 1))]).ravel().tolist()
            results.append({"image_id": image_id, "category_id": 1, "keypoints": keypoints, "score": rng.random()})
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}, results


@pytest.mark.parametrize("evaluator", ["coco", "crowdpose"])
def test_scores_equal_the_loops(tmp_path, evaluator):
    rules = schema(evaluator)
    defined = set()
    for seed in range(25):
        content, results = random_scene(seed)
        path = tmp_path / f"{seed}.json"
        path.write_text(json.dumps(content))
        scores = evaluate_keypoints(path, results, rules).values
        expected = oracle(content, results, rules)
        assert scores == pytest.approx(expected, abs=1e-9, nan_ok=True), f"seed {seed}"
        defined |= {name for name, value in scores.items() if 0 < value < 1}
    assert defined == set(scores), "every score was tested"


@pytest.mark.parametrize("evaluator", ["coco", "crowdpose"])
def test_the_fast_backend_scores_alike(tmp_path, evaluator):
    pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed")
    for seed in range(25):
        content, results = random_scene(seed)
        path = tmp_path / f"{seed}.json"
        path.write_text(json.dumps(content))
        fast = evaluate_keypoints(path, results, schema(evaluator), backend="fast").values
        assert fast == pytest.approx(
            evaluate_keypoints(path, results, schema(evaluator)).values, abs=1e-14, nan_ok=True
        )
