"""Predict the poses in images with an exported model.

python predict.py image.jpg [image2.jpg ...] [--out DIR]

Writes NAME.predictions.json and NAME.poses.jpg for each image. Needs onnxruntime, numpy and opencv alone; in Python:

    model = ExportedModel("folder of model.onnx")
    keypoints, scores, tags = model.run(cv2.imread("image.jpg"))  # (N, K, 3): x, y, score; (N,); (N, T)
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from coupled_embedding.export.pose_decoder import Options, People, decode

Image = NDArray[np.uint8]

FORMAT, VERSION = "coupled-embedding export", 1
MAX_ASPECT = 32  # an image longer than that, with its short side at full size, fills any memory


class Geometry(NamedTuple):
    """How an image is resized to an input: its size (width, height) and affine maps (2, 3) to it and back."""

    size: tuple[int, int]
    to_input: NDArray[np.float64]
    to_image: NDArray[np.float64]


def resize_geometry(width: int, height: int, short_side: int, divisor: int) -> Geometry:
    """Fill the short side; the other keeps the ratio and is rounded up to a multiple of the divisor."""
    short = math.ceil(short_side / divisor) * divisor
    ratio = short / width * height if width < height else short / height * width
    long = math.ceil(ratio / divisor) * divisor
    size, side = ((short, long), float(width)) if width < height else ((long, short), long / short * height)
    source, target = np.zeros((3, 2), np.float32), np.zeros((3, 2), np.float32)
    source[0] = np.rint(width / 2), np.rint(height / 2)
    target[0] = 0.5 * size[0], 0.5 * size[1]
    source[1], target[1] = source[0] - (0, 0.5 * side), target[0] - (0, 0.5 * size[0])
    for points in (source, target):
        edge = points[0] - points[1]
        points[2] = points[1] + (-edge[1], edge[0])
    to_input, to_image = cv2.getAffineTransform(source, target), cv2.getAffineTransform(target, source)
    return Geometry(size, np.asarray(to_input, np.float64), np.asarray(to_image, np.float64))


class ExportedModel:
    """An exported model in onnxruntime, on the CPU.

    Args:
        folder: that holds model.json.
        file: the model's file in it.
        threads: of onnxruntime; 0: a thread for each core.

    Raises:
        ValueError: model.json is not of an export, or of another version.
        OSError: a file cannot be read.
    """

    def __init__(self, folder: str | Path, file: str = "model.onnx", threads: int = 0) -> None:
        import onnxruntime  # here, so that the library does without until a model is run

        self.info: dict[str, Any] = json.loads((Path(folder) / "model.json").read_text(encoding="utf-8"))
        if not isinstance(self.info, dict) or (self.info.get("format"), self.info.get("version")) != (FORMAT, VERSION):
            raise ValueError(f"{folder}/model.json: not a {FORMAT} of version {VERSION}")
        self.options = Options.from_dict(self.info["decode"])
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        content = (Path(folder) / file).read_bytes()  # read here for its error, which names the file
        self.session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
        self.dtype = np.uint8 if self.session.get_inputs()[0].type == "tensor(uint8)" else np.float32

    def prepare(self, image: Image) -> tuple[NDArray[Any], Geometry]:
        """Resize a BGR image (h, w, 3) to the model's input (1, 3, H, W).

        Raises:
            ValueError: it is no such image, or far longer than wide.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise ValueError(f"expected a (height, width, 3) uint8 image, got {image.shape} {image.dtype}")
        height, width = image.shape[:2]
        if max(height, width) > MAX_ASPECT * min(height, width):
            raise ValueError(
                f"the image is {width}×{height} pixels; at most {MAX_ASPECT} times as long as wide is taken"
            )
        geometry = resize_geometry(width, height, self.info["input"]["size"], self.info["input"]["divisor"])
        warped = cv2.warpAffine(image, geometry.to_input, geometry.size, flags=cv2.INTER_LINEAR)
        rgb = np.ascontiguousarray(warped[..., ::-1].transpose(2, 0, 1)[None])
        return rgb.astype(self.dtype, copy=False), geometry

    def maps(self, inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Run the model on inputs (B, 3, H, W); its outputs are `pose_decoder.decode`'s, with the batch's axis."""
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, {"images": inputs}), strict=True))

    def run(self, image: Image) -> People:
        """Return the people in a BGR image (h, w, 3) uint8, best first, in its pixels."""
        inputs, geometry = self.prepare(image)
        outputs = {name: values[0] for name, values in self.maps(inputs).items()}
        return decode(outputs, (geometry.size[1], geometry.size[0]), geometry.to_image, self.options)


def draw(image: Image, people: People, info: dict[str, Any], min_score: float) -> Image:
    """Return the image with the limbs and joints whose score is at least ``min_score``."""
    canvas = image.copy()
    for keypoints in people.keypoints:
        shown = keypoints[:, 2] >= min_score
        if not shown.any():
            continue
        span = float(np.ptp(keypoints[shown, :2], axis=0).max())
        width = max(1, round(span / 80))
        places = [(round(x), round(y)) for x, y in keypoints[:, :2].tolist()]
        colors = [tuple(reversed(color)) for color in info["colors"]]
        for a, b in info["skeleton"]:
            if shown[a] and shown[b]:
                cv2.line(canvas, places[a], places[b], colors[b], width, cv2.LINE_AA)
        for joint in np.flatnonzero(shown):
            cv2.circle(canvas, places[joint], width + 1, colors[joint], -1, cv2.LINE_AA)
    return canvas


def as_json(name: str, image: Image, people: People, info: dict[str, Any]) -> str:
    """Return the people as JSON text; keypoints are [x, y, score] in the order of ``joints``."""
    rows = zip(people.keypoints.round(3).tolist(), people.scores.round(5).tolist(), strict=True)
    found = [{"score": score, "keypoints": keypoints} for keypoints, score in rows]
    height, width = image.shape[:2]
    return json.dumps({"image": name, "width": width, "height": height, "joints": info["joints"], "people": found})


def best_of(people: People, least: float, share: float = 0.4) -> People:
    """Return the people scored at least ``share`` of the best one and ``least``."""
    kept = people.scores >= max(share * people.scores.max(initial=0.0), least)
    return People(people.keypoints[kept], people.scores[kept], people.tags[kept])


def main() -> None:
    """Predict, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--out", default=Path("."), type=Path, help="folder to write to")
    parser.add_argument("--model", default="model.onnx", help="file beside this program, such as model.int8.onnx")
    parser.add_argument("--min-score", default=0.1, type=float, help="of people, and of the joints that are drawn")
    parser.add_argument("--threads", default=0, type=int, help="default: a thread for each core")
    args = parser.parse_args()
    try:
        predict_files(args)
    except (OSError, ValueError) as error:
        sys.exit(str(error))


def predict_files(args: argparse.Namespace) -> None:
    """Do what the command line asks for."""
    model = ExportedModel(Path(__file__).resolve().parent, args.model, args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    for path in args.images:
        files = [args.out / f"{path.stem}{ending}" for ending in (".predictions.json", ".poses.jpg")]
        if existing := [str(file) for file in files if file.exists()]:
            sys.exit(f"{', '.join(existing)}: exists; choose another folder by --out")
        decoded = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if decoded is None:
            sys.exit(f"{path}: not an image that OpenCV can read")
        image = np.asarray(decoded, np.uint8)
        try:
            people = best_of(model.run(image), args.min_score)
        except ValueError as error:
            sys.exit(f"{path}: {error}")
        files[0].write_text(as_json(path.name, image, people, model.info), encoding="utf-8")
        cv2.imwrite(str(files[1]), draw(image, people, model.info, args.min_score))
        print(f"{path}: {len(people.scores)} people; {files[0]}, {files[1]}")


if __name__ == "__main__":
    main()
