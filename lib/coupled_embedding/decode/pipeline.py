"""Batches in, people out: network, merges, decode; the decode of one batch runs beside the next."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from yacs.config import CfgNode

from coupled_embedding.data.geometry import TestGeometry
from coupled_embedding.data.images import normalise
from coupled_embedding.data.schema import KeypointSchema, Pose
from coupled_embedding.data.test_dataset import InputBatch
from coupled_embedding.decode.aggregate import MergedMaps, merge_flip, merge_resolutions, merge_scales
from coupled_embedding.decode.decode import DecodeSettings, build_decode_settings, decode
from coupled_embedding.networks.folding import fold_batch_norm
from coupled_embedding.networks.pose_network import PoseNetwork

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class StageTimes:
    """Seconds spent in each stage of inference, and photos seen."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    photos: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the block's time to a stage."""
        start = time.perf_counter()
        yield
        with self.lock:
            self.seconds[stage] += time.perf_counter() - start


@dataclass(frozen=True)
class EstimatorSettings:
    """How a network is run on inputs.

    Attributes:
        flip_index: for each joint, the joint that it becomes in a mirror.
        decode: how maps become people.
        flip: merge with the mirrored photo.
        scales: scale factors.
        precision: ``"fp32"``, ``"bf16"`` or ``"fp16"`` of the network; all else is float32.
        fold_bn: whether to run a copy of the network whose convs do the batch norms' work.
        tag_scales: ``"base"``: tags come from factor 1; ``"all"``: from all scales, side by side.
        pixels: a key of `images.PIXELS`: what the network's input looks like.
    """

    flip_index: tuple[int, ...]
    decode: DecodeSettings
    flip: bool = True
    scales: tuple[float, ...] = (1.0,)
    precision: str = "fp32"
    fold_bn: bool = False
    tag_scales: str = "base"
    pixels: str = "imagenet"


def build_estimator_settings(cfg: CfgNode, schema: KeypointSchema) -> EstimatorSettings:
    """Build the settings of a config."""
    return EstimatorSettings(
        schema.flip_index,
        build_decode_settings(cfg, schema),
        cfg.TEST.FLIP,
        tuple(cfg.TEST.SCALES),
        cfg.TEST.PRECISION,
        cfg.TEST.FOLD_BN,
        cfg.TEST.TAG_SCALES,
        cfg.MODEL.PIXELS,
    )


class PoseEstimator:
    """Runs a network on batches of inputs and decodes its maps.

    Args:
        network: in evaluation mode; its weights say the device.
        settings: how to run and decode.
        threads: that decode photos while the network goes on.
    """

    def __init__(self, network: PoseNetwork, settings: EstimatorSettings, threads: int = 2) -> None:
        self.network = fold_batch_norm(network) if settings.fold_bn else network
        self.settings = settings
        self.threads = threads

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    @torch.inference_mode()
    def maps(self, images: Sequence[Tensor], base_size: tuple[int, int]) -> MergedMaps:
        """Run the network and merge.

        Args:
            images: a scale factor each: (B, H, W, 3) uint8 RGB.
            base_size: (width, height) of the input at factor 1.
        """
        merged = [self._one_scale(image.to(self.device, non_blocking=True)) for image in images]
        tags_from = None if self.settings.tag_scales == "all" else self.settings.scales.index(1.0)
        return merge_scales(merged, tags_from, (base_size[1], base_size[0]))

    def _one_scale(self, images: Tensor) -> MergedMaps:
        inputs = normalise(images, self.settings.pixels)
        count = len(inputs)
        if self.settings.flip:
            inputs = torch.cat((inputs, inputs.flip(-1))).contiguous(memory_format=torch.channels_last)
        precision = PRECISIONS.get(self.settings.precision)
        with torch.autocast(inputs.device.type, precision, enabled=precision is not None):
            output = self.network(inputs)
        maps = MergedMaps(merge_resolutions(output), output.tags.float())
        if not self.settings.flip:
            return maps
        mirrored = MergedMaps(maps.heatmaps[count:], maps.tags[count:])
        return merge_flip(MergedMaps(maps.heatmaps[:count], maps.tags[:count]), mirrored, self.settings.flip_index)

    def people(self, maps: MergedMaps, geometries: Sequence[TestGeometry]) -> list[list[Pose]]:
        """Decode a batch's maps in host memory."""
        return [
            decode(maps.photo(number), geometry.base_size, geometry.to_photo(), self.settings.decode)
            for number, geometry in enumerate(geometries)
        ]

    def run(
        self, batches: Iterable[InputBatch], times: StageTimes | None = None
    ) -> Iterator[tuple[InputBatch, list[list[Pose]]]]:
        """Yield each batch with its photos' people, in the batches' order."""
        times = times or StageTimes()
        pending: list[tuple[InputBatch, Future[list[list[Pose]]]]] = []
        source = iter(batches)
        with ThreadPoolExecutor(max(1, self.threads)) as pool:
            while True:
                with times.measure("load"):
                    batch = next(source, None)
                if batch is None:
                    break
                with times.measure("network"):
                    maps = self.maps(batch.images, batch.geometries[0].base_size).cpu()
                pending.append((batch, pool.submit(self._timed_people, maps, batch.geometries, times)))
                times.photos += len(batch.indices)
                while len(pending) > self.threads:
                    yield self._finish(*pending.pop(0))
            while pending:
                yield self._finish(*pending.pop(0))

    def _timed_people(
        self, maps: MergedMaps, geometries: Sequence[TestGeometry], times: StageTimes
    ) -> list[list[Pose]]:
        with times.measure("decode"):
            return self.people(maps, geometries)

    @staticmethod
    def _finish(batch: InputBatch, future: Future[list[list[Pose]]]) -> tuple[InputBatch, list[list[Pose]]]:
        return batch, future.result()
