"""Draw the people of photos.

python tools/demo.py --weights outputs/synthetic_ce_small/best.pth photo.jpg folder_of_photos --out outputs/demo

Writes NUMBER_NAME_people.jpg for each photo and people.json with all keypoints.
"""

import argparse
import json
from pathlib import Path

import torch

from coupled_embedding.config import override
from coupled_embedding.data.images import read_image
from coupled_embedding.data.io.data_errors import build_bad_input, photo_problem
from coupled_embedding.data.schema import Pose
from coupled_embedding.engine.checkpoint_files import load_model
from coupled_embedding.engine.evaluate import SHOWN_JOINT, likely_people
from coupled_embedding.predictor import Predictor
from coupled_embedding.utils.atomic import write_whole
from coupled_embedding.utils.cli import command
from coupled_embedding.utils.errors import DatasetError, UserError
from coupled_embedding.visualize import draw_poses, save_image

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+", type=Path, help="photos, or folders of them")
    parser.add_argument("--weights", required=True, help="checkpoint of this package")
    parser.add_argument("--out", default="outputs/demo", type=Path, help="folder to write to")
    parser.add_argument("--options", nargs="*", default=[], metavar="KEY VALUE", help="config options to change")
    return parser.parse_args()


def find_photos(paths: list[Path]) -> list[Path]:
    """Return the photos named or lying in the folders named."""
    photos = []
    for path in paths:
        photos += sorted(p for p in path.iterdir() if p.suffix.lower() in EXTENSIONS) if path.is_dir() else [path]
    if not photos:
        raise UserError(f"no photos in {', '.join(map(str, paths))} (looked for {', '.join(sorted(EXTENSIONS))})")
    return photos


def as_json(people: list[Pose], joints: tuple[str, ...]) -> list[dict[str, object]]:
    """Return people as plain values: score and name -> [x, y, score] in photo pixels."""
    return [
        {
            "score": round(pose.score, 4),
            "keypoints": {n: [round(float(v), 3) for v in k] for n, k in zip(joints, pose.keypoints, strict=True)},
        }
        for pose in people
    ]


@command
def main() -> None:
    """Predict, draw, write."""
    args = parse()
    model = load_model(args.weights)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = model.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    cfg = override(model.cfg, args.options)
    predictor, bad_input = Predictor(network, cfg, model.schema), build_bad_input(cfg, training=False)
    found = {}
    for path in find_photos(args.photos):
        try:
            people = likely_people(predictor(path))
        except DatasetError as error:
            bad_input.meet(photo_problem(error, path, None))
            continue
        image = read_image(path)
        save_image(
            args.out / f"{len(found):04d}_{path.stem}_people.jpg",
            draw_poses(image, people, model.schema, min_score=SHOWN_JOINT),
        )
        found[str(path)] = as_json(people, model.schema.joints)
        print(f"{path}: {len(people)} people")
    write_whole(args.out / "people.json", json.dumps(found, indent=1), "the people")
    print(f"pictures and people.json in {args.out}")
    if told := bad_input.report("photos that cannot be read", bad_input.problems, args.out):
        print(told)


if __name__ == "__main__":
    main()
