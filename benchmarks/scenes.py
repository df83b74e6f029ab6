"""How hard are the synthetic scenes? Who hides whom, how crowded, how people face the camera and how big they are.

python benchmarks/scenes.py [--count N] [--split S] [--seed N] [--annotations FILE]

AP is that of the true people without the joints that are not seen: an upper bound for a network
that detects no hidden joint. With an annotation file in CrowdPose's format it also
prints the facing and sizes of real people.
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from common import ROOT

from coupled_embedding.data.schema import load_schema
from coupled_embedding.evaluation import evaluate_keypoints
from synthetic_crowd import CrowdSettings, Scene, render_scene, write_dataset
from synthetic_crowd.writer import split_seed


def facing_and_size(path: Path) -> str:
    """Return the share of people seen from behind and the quartiles of their height in image heights."""
    content = json.loads(path.read_text(encoding="utf-8"))
    heights = {image["id"]: image["height"] for image in content["images"]}
    joints = np.array([a["keypoints"] for a in content["annotations"]]).reshape(len(content["annotations"]), -1, 3)
    both = (joints[:, :2, 2] > 0).all(1)  # CrowdPose lists the left shoulder, then the right one
    behind = (joints[both, 0, 0] < joints[both, 1, 0]).mean()
    shares = [a["bbox"][3] / heights[a["image_id"]] for a in content["annotations"]]
    quartiles = ", ".join(f"{q:.2f}" for q in np.percentile(shares, (25, 50, 75)))
    return f"left shoulder on the left: {behind:.1%}; box height, quartiles in image heights: {quartiles}"


def hidden_joints(scene: Scene) -> np.ndarray:
    """Return how many joints the scene labels, how many others hide, and how many are hidden at all."""
    last = np.array(scene.person_map.shape)[::-1] - 1
    counts = np.zeros(3, int)
    for number, joints in enumerate(scene.keypoints, 1):
        x, y = np.clip(np.rint(joints[:, :2]).astype(int), 0, last).T
        owner, hidden = scene.person_map[y, x], joints[:, 2] == 1
        counts += ((joints[:, 2] > 0).sum(), (hidden & (owner != 0) & (owner != number)).sum(), hidden.sum())
    return counts


def ap_of_seen_joints(path: Path) -> float:
    """Return the AP of the true people with their hidden joints at (0, 0)."""
    people = json.loads(path.read_text(encoding="utf-8"))["annotations"]
    results = []
    for person in people:
        joints = np.array(person["keypoints"], float).reshape(-1, 3)
        score = float((joints[:, 2] == 2).mean())
        seen = np.where(joints[:, 2:] == 2, joints * (1, 1, 0) + (0, 0, 1), (0, 0, 1))
        found = {"image_id": person["image_id"], "category_id": person["category_id"]}
        results.append(found | {"keypoints": seen.ravel().tolist(), "score": score})
    return evaluate_keypoints(path, results, load_schema(ROOT / "datasets/synthetic.yaml")).main


def main() -> None:
    """Render, count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="scenes (%(default)s)")
    parser.add_argument("--split", default="test", help="of the crowd (%(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="of the crowd (%(default)s)")
    parser.add_argument("--annotations", type=Path, help="real people to compare with")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    settings = CrowdSettings()
    scenes = [render_scene(settings, split_seed(args.split, args.seed), number) for number in range(args.count)]
    labelled, by_others, hidden = np.sum([hidden_joints(scene) for scene in scenes], axis=0)
    crowds = np.array([scene.crowd_index for scene in scenes])
    print(f"{args.count} scenes, {np.mean([len(scene.keypoints) for scene in scenes]):.2f} people each")
    print(f"joints hidden by others {by_others / labelled:.1%}, hidden at all {hidden / labelled:.1%}")
    print(f"easy {(crowds < 0.2).mean():.0%}, hard {(crowds >= 0.8).mean():.0%}, mean crowd index {crowds.mean():.2f}")
    with TemporaryDirectory() as folder:
        path = write_dataset(folder, args.split, settings, args.seed, args.count)
        print(facing_and_size(path))
        print(f"AP of the people without their hidden joints: {100 * ap_of_seen_joints(path):.1f}")
    if args.annotations:
        print(f"{args.annotations.name}: {facing_and_size(args.annotations)}")


if __name__ == "__main__":
    main()
