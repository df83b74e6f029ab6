"""One object from photos to people, and the run over a whole data set."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from yacs.config import CfgNode

from coupled_embedding.data.geometry import fit_geometry
from coupled_embedding.data.images import read_image
from coupled_embedding.data.io.data_errors import BadInput
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import KeypointSchema, Pose
from coupled_embedding.data.test_dataset import (
    InputDataset,
    input_batches,
    like_shaped_batches,
    shape_problem,
    testable,
    warp_to_input,
)
from coupled_embedding.decode.pipeline import PoseEstimator, StageTimes, build_estimator_settings
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.utils.errors import DatasetError


class Predictor:
    """People of any photo.

    Example::

        model = load_model("outputs/coco_ce_hrnet_w32_512/best.pth")
        people = Predictor(model.network, model.cfg, model.schema)("crowd.jpg")

    Args:
        network: in evaluation mode, on the device to use.
        cfg: its config, whose TEST options apply.
        schema: its joints.
    """

    def __init__(self, network: PoseNetwork, cfg: CfgNode, schema: KeypointSchema) -> None:
        self.schema = schema
        self.input_size = cfg.DATASET.INPUT_SIZE
        self.estimator = PoseEstimator(network, build_estimator_settings(cfg, schema))

    def __call__(self, image: NDArray[np.uint8] | str | Path) -> list[Pose]:
        """Return the people of a photo, best first, in its pixels.

        Args:
            image: (height, width, 3) uint8 blue, green, red, or a file, turned as its EXIF
                tag says.

        Raises:
            DatasetError: the file cannot be read, or the picture is too long.
            ValueError: the array is no such picture.
        """
        name = str(image) if isinstance(image, str | Path) else "picture"
        if isinstance(image, str | Path):
            image = read_image(Path(image))
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise ValueError(f"expected a (height, width, 3) uint8 picture, got {image.shape} {image.dtype}")
        if too_long := shape_problem((image.shape[1], image.shape[0])):
            raise DatasetError(f"{name}: {too_long}")
        geometry = fit_geometry((image.shape[1], image.shape[0]), self.input_size)
        scales = self.estimator.settings.scales
        inputs = [torch.from_numpy(warp_to_input(image, geometry, factor))[None] for factor in scales]
        maps = self.estimator.maps(inputs, geometry.base_size).cpu()
        return sorted(self.estimator.people(maps, [geometry])[0], key=lambda pose: -pose.score)


def predict_records(
    estimator: PoseEstimator,
    records: Sequence[ImageRecord],
    input_size: int,
    batch_size: int,
    workers: int = 0,
    rank: int = 0,
    processes: int = 1,
    times: StageTimes | None = None,
    progress: Callable[[int], object] = lambda photos: None,
    bad_input: BadInput | None = None,
) -> dict[int, list[Pose]]:
    """Find the people of this process's share of a data set.

    Batches are made of the whole data set first and then dealt out, so that a photo meets the
    same batch, and so the same rounding, on any number of processes.

    Args:
        input_size: S, pixels.
        batch_size: photos of like shape per forward pass.
        workers: loader processes.
        rank, processes: this process and their number.
        times: filled with seconds a stage.
        progress: called with the number of photos just done.
        bad_input: what happens to photos that cannot be read; None: they are errors. With a
            tolerant one nobody is found there, and it knows of them afterwards.

    Returns:
        People by image id, in decode's order; every photo of the share has an entry.

    Raises:
        DatasetError: a photo cannot be read, or is far longer than wide.
    """
    bad_input = bad_input or BadInput()
    usable = testable(records, bad_input)
    people: dict[int, list[Pose]] = {r.image_id: [] for r in records if shape_problem((r.width, r.height))}
    sizes = [fit_geometry((r.width, r.height), input_size).base_size for r in usable]
    batches = like_shaped_batches(sizes, batch_size)[rank::processes]
    if not batches:
        return people
    dataset = InputDataset(usable, batches, input_size, estimator.settings.scales, bad_input)
    loaded = input_batches(dataset, workers, estimator.device.type == "cuda")
    try:
        for batch, poses in estimator.run(loaded, times):
            for index, found in zip(batch.indices, poses, strict=True):
                people[usable[index].image_id] = [] if index in batch.skipped else found
            bad_input.remember(batch.skipped.values())
            progress(len(poses))
    except RuntimeError as error:
        dataset.name_dead_worker(error)
        raise
    return people
