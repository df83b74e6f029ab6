"""Compare an exported model with the library on images: the same maps, the same people, and both speeds."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from coupled_embedding.data.geometry import resize_geometry
from coupled_embedding.data.images import read_record_image
from coupled_embedding.data.outputs import Pose
from coupled_embedding.data.test_dataset import warp_to_input
from coupled_embedding.decode.aggregate import ImageMaps, MergedMaps
from coupled_embedding.decode.decode import decode
from coupled_embedding.decode.fast.views import TagView
from coupled_embedding.decode.pipeline import InferencePipeline
from coupled_embedding.engine.evaluate import EvalJob
from coupled_embedding.evaluation import Scores, poses_to_results, score_results
from coupled_embedding.export import pose_decoder
from coupled_embedding.export.predict import ExportedModel
from coupled_embedding.utils.errors import UserError

Image = NDArray[np.uint8]
Array = NDArray[np.float64]

MAX_PIXELS_OFF = 1e-3
MAX_SCORE_OFF = 1e-4
MAX_MAPS_OFF = 1e-4  # of the largest value: the rounding errors of two orders of summation are a hundredth of it
# joints for whose place rounding errors decide between two equally good ones, at most
MAX_SHARE_OFF = 0.01


@dataclass(frozen=True)
class Comparison:
    """An exported model next to the library.

    Attributes:
        images, people, joints: how many were compared; people and joints are the library's.
        maps_off: largest difference of heatmaps and tags, in units of the largest value of each.
        decode_pixels_off, decode_score_off: largest difference of joints, in image pixels, and of scores, of the two
            decoders in the exported model's maps.
        pixels_off, score_off: the same from image to people, each with its own maps.
        joints_off: joints farther off than `MAX_PIXELS_OFF` from image to people, or of people that one of them has
            and the other has not.
        library_rate, exported_rate: images per second from pixels to people.
    """

    images: int
    people: int
    joints: int
    maps_off: float
    decode_pixels_off: float
    decode_score_off: float
    pixels_off: float
    score_off: float
    joints_off: int
    library_rate: float
    exported_rate: float

    def describe(self) -> str:
        """Return what was compared, in lines of text."""
        return (
            f"{self.images} images, {self.people} people: maps differ by {self.maps_off:.1e} of their largest value\n"
            f"decoders in the same maps: {self.decode_pixels_off:.1e} pixels, scores {self.decode_score_off:.1e}\n"
            f"image to people: {self.pixels_off:.1e} pixels at most, scores {self.score_off:.1e}; {self.joints_off} of "
            f"{self.joints} joints more than {MAX_PIXELS_OFF} pixels off\n"
            f"one thread each: library {self.library_rate:.2f} images/s, exported {self.exported_rate:.2f} images/s"
        )

    def raise_if_different(self, share_off: float = MAX_SHARE_OFF) -> None:
        """Raise UserError unless the exported model finds the library's people.

        The maps have to agree, and the decoders in the same maps. From image to people a joint may be off where the
        rounding errors of the maps, which are of another order of summation, decide between two places.

        Args:
            share_off: of the joints that may be off from image to people.
        """
        faults = []
        if not self.maps_off <= MAX_MAPS_OFF:
            faults.append(f"maps differ by {self.maps_off:.1e} of their largest value (at most {MAX_MAPS_OFF:.0e})")
        if not (self.decode_pixels_off <= MAX_PIXELS_OFF and self.decode_score_off <= MAX_SCORE_OFF):
            faults.append("the decoders find other people in the same maps")
        if self.joints_off > share_off * self.joints:
            faults.append(
                f"{self.joints_off} of {self.joints} joints are elsewhere (in maps of a network that was hardly "
                "trained rounding errors decide that often)"
            )
        if faults:
            raise UserError(f"the exported model differs from the library: {'; '.join(faults)}; do not use it")


def compare(model: ExportedModel, pipeline: InferencePipeline, input_size: int, images: Sequence[Image]) -> Comparison:
    """Run both on BGR images (h, w, 3), on one thread each.

    Args:
        model: with one thread.
        pipeline: of the network that was exported, in float32 on the CPU.
        input_size: S of the pipeline's inputs, pixels.
        images: at least one.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _run_library(pipeline, input_size, images[0])  # compiles
        rows = np.array([_compare_image(model, pipeline, input_size, image) for image in images])
    finally:
        torch.set_num_threads(threads)
    people, joints, joints_off = rows[:, :3].sum(0).astype(int).tolist()
    seconds = rows[:, 3:5].sum(0)
    maps_off, *off = rows[:, 5:].max(0).tolist()
    rates = float(len(images) / seconds[0]), float(len(images) / seconds[1])
    decode_pixels, decode_score, pixels, score = off
    return Comparison(
        len(images), people, joints, maps_off, decode_pixels, decode_score, pixels, score, joints_off, *rates
    )


def _compare_image(model: ExportedModel, pipeline: InferencePipeline, input_size: int, image: Image) -> list[float]:
    """Return people, joints, joints off; both seconds; differences in the order of `Comparison`."""
    start = time.perf_counter()
    expected, maps = _run_library(pipeline, input_size, image)
    middle = time.perf_counter()
    found = model.run(image)
    seconds = middle - start, time.perf_counter() - middle
    inputs, geometry = model.prepare(image)
    outputs = {name: values[0] for name, values in model.maps(inputs).items()}
    size = (geometry.size[1], geometry.size[0])
    in_same = decode(_library_maps(outputs), geometry.size, geometry.to_image, pipeline.options.grouping())
    in_same = pipeline.options.suppress(in_same)
    decoded = pose_decoder.decode(outputs, size, geometry.to_image, model.options)
    of_decoders, of_images = difference(in_same, decoded), difference(expected, found)
    counts = len(expected), sum(len(pose.keypoints) for pose in expected), of_images[2]
    return [*counts, *seconds, _maps_difference(maps, outputs), *of_decoders[:2], *of_images[:2]]


def _run_library(pipeline: InferencePipeline, input_size: int, image: Image) -> tuple[list[Pose], MergedMaps]:
    geometry = resize_geometry((image.shape[1], image.shape[0]), input_size)
    maps = pipeline.forward([torch.from_numpy(warp_to_input(image, geometry))[None]], geometry.base_size).cpu()
    return pipeline.options.suppress(pipeline.decode(maps, [geometry])[0]), maps


def _library_maps(outputs: dict[str, NDArray[Any]]) -> ImageMaps:
    tags = np.ascontiguousarray(outputs["tags"].transpose(2, 3, 0, 1))  # (h, w, K, T)
    return ImageMaps(np.ascontiguousarray(outputs["heatmaps"]), (TagView(tags),), centers=outputs.get("centers"))


def _maps_difference(maps: MergedMaps, outputs: dict[str, NDArray[Any]]) -> float:
    dims = maps.tags.shape[-1]
    tags = maps.tags[0].float().numpy().transpose(0, 3, 1, 2)
    pairs = [(maps.heatmaps[0].numpy(), outputs["heatmaps"]), (tags, outputs["tags"][:, :dims])]
    if maps.centers is not None:
        pairs.append((maps.centers[0].numpy(), outputs["centers"]))
    return max(float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-6)) for a, b in pairs if a.size)


def difference(expected: Sequence[Pose], found: pose_decoder.People) -> tuple[float, float, int]:
    """Match people one to one; return the largest differences and how many joints are off.

    Returns:
        Of joints in pixels, infinite where the numbers of people differ; of scores, of joints and people; the number
        of joints farther off than `MAX_PIXELS_OFF`, with all those of people without a match.
    """
    if not len(expected) and not len(found.scores):
        return 0.0, 0.0, 0
    count = max(len(expected), len(found.scores))
    num_joints = found.keypoints.shape[1]
    if len(expected) == 0 or len(found.scores) == 0:
        return np.inf, np.inf, count * num_joints
    ours = np.stack([pose.keypoints for pose in expected])  # (P, K, 3)
    apart = np.abs(ours[:, None] - found.keypoints[None])  # (P, N, K, 3)
    pixels = apart[..., :2].max(-1)
    of_people = np.abs(np.array([[pose.score] for pose in expected]) - found.scores)  # (P, N)
    # joints at the same place count, not how far the others are; people with the same joints differ in their scores
    cost = (pixels > MAX_PIXELS_OFF).sum(-1) + 1e-3 * (apart[..., 2].max(-1) + of_people)
    rows, columns = linear_sum_assignment(cost)
    off = int((pixels[rows, columns] > MAX_PIXELS_OFF).sum()) + (count - len(rows)) * num_joints
    if len(expected) != len(found.scores):
        return np.inf, np.inf, off
    of_scores = max(float(apart[rows, columns, :, 2].max()), float(of_people[rows, columns].max()))
    return float(pixels[rows, columns].max()), of_scores, off


def score_exported(model: ExportedModel, job: EvalJob, progress: Iterable[Any] | None = None) -> Scores:
    """Score a model on the images of an evaluation, by the rules of its benchmark.

    Args:
        model: any of an export.
        job: whose annotations are public.
        progress: the job's records, as a progress bar passes them on; None: without.
    """
    poses = {}
    for record in progress if progress is not None else job.records:
        people = model.run(read_record_image(record))
        poses[record.image_id] = [Pose(k, float(s)) for k, s in zip(people.keypoints, people.scores, strict=True)]
    truth = job.load_ground_truth()
    results = poses_to_results(poses, truth.categories.result, job.options.max_detections)
    return score_results(truth, results, job.schema, job.options.oks_backend)
