"""Batches in, poses out: network, merges, decode. The decode of one batch runs during the next forward pass."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from coupled_embedding.data.geometry import Array, ResizeGeometry
from coupled_embedding.data.images import normalize
from coupled_embedding.data.outputs import Pose
from coupled_embedding.data.test_dataset import TestBatch
from coupled_embedding.decode.aggregate import ImageMaps, MergedMaps, merge_flip, merge_resolutions, merge_scales
from coupled_embedding.decode.decode import decode
from coupled_embedding.decode.options import DecodeOptions
from coupled_embedding.decode.single import SinglePersonOptions, decode_single
from coupled_embedding.decode.stage_times import StageTimes
from coupled_embedding.evaluation import PoseNMS
from coupled_embedding.networks.folding import fold_batch_norm
from coupled_embedding.networks.pose_network import PRECISIONS, PoseNetwork
from coupled_embedding.utils.devices import choose_precision
from coupled_embedding.utils.errors import UserError

AnyDecodeOptions = DecodeOptions | SinglePersonOptions
Transfer = tuple[MergedMaps, Callable[[], object]]  # maps, and what waits until they are in the host's memory


@dataclass(frozen=True)
class PipelineOptions:
    """How a network is run on inputs.

    Attributes:
        flip_index: for each joint, its partner in a flipped image.
        decode: how maps become poses; its type says which decode they take.
        flip: merge with the flipped image.
        scales: scale factors.
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"`` or ``"auto"`` of the network; all else is float32.
        fold_bn: run a copy of the network whose batch norms are folded into its convolutions.
        multiscale_tags: ``"single"``: tags of factor 1; ``"concat"``: of all scales, concatenated.
        pixels: a key of `images.PIXELS`: how the network's input is normalized.
        pose_nms: suppresses poses once all of an image are found; None: nothing does.
    """

    flip_index: tuple[int, ...]
    decode: AnyDecodeOptions
    flip: bool = True
    scales: tuple[float, ...] = (1.0,)
    precision: str = "fp32"
    fold_bn: bool = False
    multiscale_tags: str = "single"
    pixels: str = "imagenet"
    pose_nms: PoseNMS | None = None

    def suppress(self, poses: list[Pose]) -> list[Pose]:
        """Return what `pose_nms` leaves of an image's poses."""
        return self.pose_nms(poses) if self.pose_nms else poses

    def grouping(self) -> DecodeOptions:
        """Return the decode of whole images, for what shows or exports how joints are grouped.

        Raises:
            UserError: the network's is another.
        """
        if isinstance(self.decode, DecodeOptions):
            return self.decode
        raise UserError(
            "this network sees crops of single people (DATASET.CROPS people), whose joints it does not group; "
            "tools/test.py tests it, and Predictor(image, boxes=...) finds the joints in boxes"
        )


def decode_maps(maps: ImageMaps, base_size: tuple[int, int], to_image: Array, options: AnyDecodeOptions) -> list[Pose]:
    """Return the poses in an image's maps by the decode that the options are of; arguments as of `decode`."""
    if isinstance(options, SinglePersonOptions):
        return decode_single(maps, base_size, to_image, options)
    return decode(maps, base_size, to_image, options)


class InferencePipeline:
    """Runs a network on batches of inputs and decodes its output.

    Args:
        network: in evaluation mode; its weights say the device.
        options: how to run and decode.
        threads: that decode images while the network goes on; 0: two to eight, by this process's cores.
        ranks: processes that share these cores.
    """

    def __init__(self, network: PoseNetwork, options: PipelineOptions, threads: int = 0, ranks: int = 1) -> None:
        self.network = fold_batch_norm(network) if options.fold_bn else network
        self.options, self.needs_compiling = options, True
        self.threads = threads or min(max((os.cpu_count() or 1) // ranks, 2), 8)
        self.precision = choose_precision(options.precision, "TEST.PRECISION", self.device)

    @property
    def device(self) -> torch.device:
        """The network's device."""
        return next(self.network.parameters()).device

    @torch.inference_mode()
    def forward(self, images: Sequence[Tensor], base_size: tuple[int, int]) -> MergedMaps:
        """Run the network and merge its outputs.

        Args:
            images: for each scale factor (B, H, W, 3) uint8 RGB.
            base_size: (width, height) of the input at factor 1.
        """
        merged = [self._one_scale(image.to(self.device, non_blocking=True)) for image in images]
        if self.options.decode.centers is not None:
            # people of different sizes are found at different scales, whose maps would spoil each other
            base = merged.pop(self.options.scales.index(1.0))
            return replace(base, others=tuple(merged))
        tags_from = None if self.options.multiscale_tags == "concat" else self.options.scales.index(1.0)
        return merge_scales(merged, tags_from, (base_size[1], base_size[0]))

    def _one_scale(self, images: Tensor) -> MergedMaps:
        inputs = normalize(images, self.options.pixels)  # (B, 3, H, W)
        count = len(inputs)
        if self.options.flip:
            inputs = torch.cat((inputs, inputs.flip(-1))).contiguous(memory_format=torch.channels_last)
        dtype = PRECISIONS[self.precision]
        with torch.autocast(inputs.device.type, dtype, enabled=dtype is not None):
            output = self.network(inputs)
        heatmaps = merge_resolutions(output)
        pafs = output.pafs.float() if self.options.decode.paf and output.pafs is not None else None
        centers = output.centers if self.options.decode.centers else None
        if not self.options.flip:
            return MergedMaps(heatmaps, output.tags, pafs=pafs, centers=centers)
        straight, flipped = (
            MergedMaps(
                heatmaps[part],
                output.tags[part],
                pafs=None if pafs is None else pafs[part],
                centers=None if centers is None else centers[part],
            )
            for part in (slice(count), slice(count, None))
        )
        return merge_flip(straight, flipped, self.options.flip_index, self.options.decode.limbs)

    def decode(self, maps: MergedMaps, geometries: Sequence[ResizeGeometry]) -> list[list[Pose]]:
        """Decode a batch's maps, which are in host memory; return each image's poses."""
        return [
            decode_maps(maps.image(number), geometry.base_size, geometry.to_image(), self.options.decode)
            for number, geometry in enumerate(geometries)
        ]

    def run(
        self, batches: Iterable[TestBatch], times: StageTimes | None = None
    ) -> Iterator[tuple[TestBatch, list[list[Pose]]]]:
        """Yield each batch with the poses of its images, in the batches' order."""
        times = times or StageTimes()
        pending: list[tuple[TestBatch, Future[list[list[Pose]]]]] = []
        source = iter(batches)
        with self.pool() as pool:
            while True:
                with times.measure("load"):
                    batch = next(source, None)
                if batch is not None:
                    pending.append((batch, self.start(batch, pool, times)))
                while len(pending) > (0 if batch is None else self.threads):
                    done, future = pending.pop(0)
                    yield done, future.result()
                if batch is None:
                    return

    def pool(self) -> ThreadPoolExecutor:
        """Return threads to decode in."""
        own_gpu = partial(torch.cuda.set_device, self.device) if self.device.type == "cuda" else None  # not the first
        return ThreadPoolExecutor(max(1, self.threads), initializer=own_gpu)

    def start(self, batch: TestBatch, pool: ThreadPoolExecutor, times: StageTimes) -> Future[list[list[Pose]]]:
        """Run the network on a batch, and begin to decode its output in a thread of `pool`; times gets both stages."""
        with times.measure("network"):
            parts = self._forward_in_parts(batch.images, batch.geometries[0].base_size)
        times.images += len(batch.indices)
        return pool.submit(self._timed_decode, parts, batch.geometries, times)

    def _forward_in_parts(self, images: Sequence[Tensor], base_size: tuple[int, int]) -> list[Transfer]:
        """Return the maps of a batch on their way to the host, in as many parts as the device's memory needs."""
        try:
            return [self.forward(images, base_size).start_transfer()]
        except torch.OutOfMemoryError as error:
            count = len(images[0])
            if count == 1:
                raise UserError(
                    f"an image of {base_size[0]}×{base_size[1]} input pixels does not fit the device's memory "
                    f"({str(error).splitlines()[0]:.200}); choose TEST.PRECISION auto, fewer TEST.SCALES, TEST.FLIP "
                    "False or --device cpu"
                ) from error
        # after the handler, whose traceback would keep the memory
        torch.cuda.empty_cache()
        halves = ([image[part] for image in images] for part in (slice(count // 2), slice(count // 2, None)))
        return [part for half in halves for part in self._forward_in_parts(half, base_size)]

    def _timed_decode(
        self, parts: Sequence[Transfer], geometries: Sequence[ResizeGeometry], times: StageTimes
    ) -> list[list[Pose]]:
        rest = iter(geometries)
        poses = []
        for maps, wait in parts:
            wait()
            with times.measure("decode"):
                poses += self.decode(maps, [next(rest) for _ in maps.heatmaps])
        return poses
