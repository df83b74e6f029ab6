"""Draw the people of images; tools/predict.py does more.

python tools/demo.py --weights outputs/synthetic_ce_small/best.pth image.jpg folder_of_images --out outputs/demo

Writes NUMBER_NAME_people.jpg for each image and people.json with all keypoints.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from coupled_embedding.builders import build_policy, build_predictor, load_model
from coupled_embedding.config import override
from coupled_embedding.data.images import read_image
from coupled_embedding.data.io.data_errors import image_issue
from coupled_embedding.data.outputs import Pose
from coupled_embedding.utils.atomic import atomic_write
from coupled_embedding.utils.cli import command
from coupled_embedding.utils.errors import DatasetError, UserError
from coupled_embedding.visualize import MIN_DRAWN_SCORE, draw_poses, filter_poses, save_image

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path, help="images, or folders of them")
    parser.add_argument("--weights", required=True, help="checkpoint of this package")
    parser.add_argument("--out", default="outputs/demo", type=Path, help="folder to write to")
    parser.add_argument("--options", nargs="*", default=[], metavar="KEY VALUE", help="config options to change")
    return parser.parse_args()


def find_images(paths: list[Path]) -> list[Path]:
    """Return the images named or lying in the folders named."""
    images = []
    for path in paths:
        images += sorted(p for p in path.iterdir() if p.suffix.lower() in EXTENSIONS) if path.is_dir() else [path]
    if not images:
        raise UserError(f"no images in {', '.join(map(str, paths))} (looked for {', '.join(sorted(EXTENSIONS))})")
    return images


def as_json(poses: Sequence[Pose], joints: tuple[str, ...]) -> list[dict[str, object]]:
    """Return poses as plain values: score and name -> [x, y, score] in image pixels."""
    return [
        {
            "score": round(pose.score, 4),
            "keypoints": {
                n: [round(float(v), 3) for v in k] for n, k in zip(joints, np.nan_to_num(pose.keypoints), strict=True)
            },
        }
        for pose in poses
    ]


@command
def main() -> None:
    """Predict, draw, write."""
    args = parse()
    model = load_model(args.weights)
    cfg, schema = override(model.cfg, args.options), model.schema
    predictor = build_predictor(model, cfg, "cuda" if torch.cuda.is_available() else "cpu")
    policy = build_policy(cfg, training=False)
    detections = {}
    for path in find_images(args.images):
        try:
            poses = filter_poses(predictor(path))
        except DatasetError as error:
            policy.handle(image_issue(error, path, None))
            continue
        overlay = draw_poses(read_image(path), poses, schema, min_score=MIN_DRAWN_SCORE)
        save_image(args.out / f"{len(detections):04d}_{path.stem}_people.jpg", overlay)
        detections[str(path)] = as_json(poses, schema.joints)
        print(f"{path}: {len(poses)} people")
    atomic_write(args.out / "people.json", json.dumps(detections, indent=1), "the people")
    print(f"overlays and people.json in {args.out}")
    if issues := policy.report("images that cannot be read", policy.issues, args.out):
        print(issues)


if __name__ == "__main__":
    main()
