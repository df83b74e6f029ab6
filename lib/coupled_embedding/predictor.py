"""One object from an image to poses."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from coupled_embedding.data.geometry import resize_geometry
from coupled_embedding.data.images import read_image
from coupled_embedding.data.outputs import Pose
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.data.test_dataset import aspect_error, warp_to_input
from coupled_embedding.decode.pipeline import InferencePipeline, PipelineOptions
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.utils.errors import DatasetError


class Predictor:
    """Predicts the poses in any image.

    Example::

        predictor = Predictor.from_pretrained("outputs/synthetic_ce_small/best.pth")
        poses = predictor("crowd.jpg")
        print(poses[0].score, poses[0].keypoints)  # (K, 3): x, y, score

    Args:
        network: in evaluation mode, on the device to use.
        options: how it is run and its output decoded.
        schema: its joints.
        input_size: S: pixels of the input's short side.
    """

    def __init__(self, network: PoseNetwork, options: PipelineOptions, schema: KeypointSchema, input_size: int) -> None:
        self.schema = schema
        self.input_size = input_size
        self.pipeline = InferencePipeline(network, options)

    @classmethod
    def from_pretrained(cls, path: str | Path, overrides: tuple[str, ...] = (), device: str = "cpu") -> "Predictor":
        """Return a predictor of a checkpoint, with its own config.

        Args:
            path: of a checkpoint of this package.
            overrides: ``(key, value, ...)``: options to change, such as ``("TEST.FLIP", "False")``.
            device: ``"cpu"`` or ``"cuda"``.

        Raises:
            CheckpointError: the file is missing, damaged, or not of this package.
            ConfigError: an option is wrong.
        """
        from coupled_embedding.builders import load_predictor  # which imports what it builds

        return load_predictor(path, overrides, device)

    def __call__(self, image: NDArray[np.uint8] | str | Path) -> list[Pose]:
        """Return the poses in an image, best first, in its pixels.

        Args:
            image: (height, width, 3) uint8 blue, green, red, or a file, which is turned by its EXIF orientation.

        Raises:
            DatasetError: the file cannot be read, or the image is too long.
            ValueError: the array is not such an image.
        """
        name = str(image) if isinstance(image, str | Path) else "image"
        if isinstance(image, str | Path):
            image = read_image(Path(image))
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise ValueError(f"expected a (height, width, 3) uint8 image, got {image.shape} {image.dtype}")
        size = (image.shape[1], image.shape[0])
        if too_long := aspect_error(size):
            raise DatasetError(f"{name}: {too_long}")
        geometry = resize_geometry(size, self.input_size)
        scales = self.pipeline.options.scales
        inputs = [torch.from_numpy(warp_to_input(image, geometry, factor))[None] for factor in scales]
        maps = self.pipeline.forward(inputs, geometry.base_size).cpu()
        return sorted(self.pipeline.decode(maps, [geometry])[0], key=lambda pose: -pose.score)
