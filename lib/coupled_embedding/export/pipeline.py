"""An exported model as a pipeline: a predictor runs it as it runs a network, from images to the same poses."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coupled_embedding.data.geometry import ResizeGeometry
from coupled_embedding.data.outputs import Pose
from coupled_embedding.data.test_dataset import TestBatch
from coupled_embedding.decode.aggregate import MergedMaps
from coupled_embedding.decode.pipeline import PipelineOptions
from coupled_embedding.decode.stage_times import StageTimes
from coupled_embedding.export.describe import decoder_options
from coupled_embedding.export.graph import CENTER_OUTPUTS, OUTPUTS
from coupled_embedding.export.pose_decoder import Options, decode
from coupled_embedding.export.predict import ExportedModel
from coupled_embedding.utils.errors import CheckpointError, NonFiniteError, UserError

_THREADS = 2  # that decode: NumPy holds Python's lock most of the time


class ExportedPipeline:
    """Runs an exported model on batches of inputs, and decodes its output by `pose_decoder`; a `Pipeline`.

    Args:
        model: of an export's folder.
        options: how its output is decoded; flip and scales are the export's.
        name: of the export in errors.

    Raises:
        CheckpointError: the model's inputs and outputs are not an export's, or not of as many joints as the options.
    """

    needs_compiling = False

    def __init__(self, model: ExportedModel, options: PipelineOptions, name: str) -> None:
        self.model, self.options, self.name = model, options, name
        self.threads = _THREADS
        self.decoder = Options.from_dict(decoder_options(options.grouping()))
        inputs = {one.name: one.shape for one in model.session.get_inputs()}
        outputs = {one.name: one.shape for one in model.session.get_outputs()}
        joints = len(options.flip_index)
        wanted = CENTER_OUTPUTS if self.decoder.centers else OUTPUTS
        if list(inputs) != ["images"] or set(outputs) != set(wanted) or len(outputs["tags"]) != 5:
            raise CheckpointError(
                f"{name}: not the model of an export: it maps {', '.join(inputs)} to {', '.join(outputs)}"
            )
        if outputs["tags"][1] != joints:
            raise CheckpointError(f"{name}: the model has {outputs['tags'][1]} joints, model.json has {joints}")
        self.tag_dim = int(outputs["tags"][2]) // (2 if options.flip else 1)
        self.place_dims = _place_dims(model.info, self.tag_dim, name)

    def forward(self, images: Sequence[Tensor], base_size: tuple[int, int]) -> MergedMaps:
        """Return the maps of inputs (B, H, W, 3) uint8 RGB, tags of the first view alone; `base_size` is their size."""
        outputs = self._run(images[0])
        tags = torch.from_numpy(outputs["tags"][:, :, : self.tag_dim])
        return MergedMaps(torch.from_numpy(outputs["heatmaps"]), tags.permute(0, 1, 3, 4, 2))

    def pool(self) -> ThreadPoolExecutor:
        """Return threads to decode in."""
        return ThreadPoolExecutor(self.threads)

    def start(self, batch: TestBatch, pool: ThreadPoolExecutor, times: StageTimes) -> Future[list[list[Pose]]]:
        """Run the model on a batch, and begin to decode its output in a thread of `pool`; times gets both stages."""
        with times.measure("network"):
            outputs = self._run(batch.images[0])
        times.images += len(batch.indices)
        return pool.submit(self._decode, outputs, batch.geometries, times)

    def _run(self, images: Tensor) -> dict[str, NDArray[Any]]:
        inputs = np.ascontiguousarray(images.permute(0, 3, 1, 2).numpy()).astype(self.model.dtype, copy=False)
        try:
            return self.model.maps(inputs)
        except Exception as error:  # onnxruntime raises what its C++ code chooses
            height, width = inputs.shape[2:]
            raise UserError(
                f"{self.name}: onnxruntime failed on {len(inputs)} inputs of {width}×{height} pixels "
                f"({error!s:.300}); choose a smaller size or batch, or export the model again"
            ) from error

    def _decode(
        self, outputs: dict[str, NDArray[Any]], geometries: Sequence[ResizeGeometry], times: StageTimes
    ) -> list[list[Pose]]:
        with times.measure("decode"):
            return [
                self._decode_image({name: values[number] for name, values in outputs.items()}, geometry)
                for number, geometry in enumerate(geometries)
            ]

    def _decode_image(self, outputs: dict[str, NDArray[Any]], geometry: ResizeGeometry) -> list[Pose]:
        width, height = geometry.base_size
        try:
            people = decode(outputs, (height, width), geometry.to_image(), self.decoder)
        except ValueError as error:  # the maps are not finite
            raise NonFiniteError(f"{self.name}: {error}") from error
        tags = people.tags if self.tag_dim else [None] * len(people.tags)
        return [Pose(*person) for person in zip(people.keypoints, people.scores.tolist(), tags, strict=True)]


def _place_dims(info: dict[str, Any], tag_dim: int, name: str) -> int:
    """Return how many dimensions of a view's tags hold places; exports of before that was written had none."""
    tags = info.get("tags", {})
    places = tags.get("place_dims", 0) if isinstance(tags, dict) else None
    most = max(tag_dim - 1, 0)
    if type(places) is not int or not 0 <= places <= most:
        raise CheckpointError(f"{name}: tags.place_dims of model.json: expected 0 to {most}, got {places!r:.80}")
    return places
