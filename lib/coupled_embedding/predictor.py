"""One object from images, videos and cameras to poses."""

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from coupled_embedding.data.geometry import ResizeGeometry, region_geometry, resize_geometry
from coupled_embedding.data.person_crops import square_region
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.data.sources import ImageLike, Pixels, Video, expand, is_video, name_of, to_bgr
from coupled_embedding.data.test_dataset import aspect_error, warp_to_input
from coupled_embedding.decode.batching import ImageInput, Pipeline, predict_in_order
from coupled_embedding.decode.decode import is_compiled
from coupled_embedding.decode.fields import NetworkFields, network_fields
from coupled_embedding.networks.hub import INSTALL
from coupled_embedding.networks.model_file import DEFAULT_MODEL
from coupled_embedding.poses import Poses
from coupled_embedding.tracking import Tracker
from coupled_embedding.utils.errors import DatasetError, InputError, UserError, short_repr

OnError = Callable[[DatasetError], object]

_LOG = logging.getLogger(__name__)
_WINDOW = 4  # batches that a stream reads ahead to find images of equal shape


class Entry(NamedTuple):
    """An image of a stream, before it is read."""

    image: ImageLike
    name: str
    frame: int | None = None  # of a video


class Predictor:
    """Predicts the poses in any image.

    Several threads may call one predictor. However large an image is, the network's input has the same size.

    Example:

    ```python
    predictor = Predictor.from_pretrained("outputs/synthetic_ce_small/best.pth")
    poses = predictor("crowd.jpg")  # best first
    print(poses.xy.shape, poses.scores)  # (N, K, 2), NaN where a joint was not found; (N,)
    print(poses[0].score, poses[0].keypoints)  # (K, 3): x, y, score
    poses.save("crowd_poses.png")
    ```

    Args:
        pipeline: the model and its decode.
        schema: its joints.
        input_size: S: pixels of the input's short side.
        batch: images of equal shape in a forward pass, at most.
        min_score: people scored lower are left out.
        tag_dims: (D, P): dimensions of a view's tags; the last P of them hold places and are left out of `Poses.tags`.
        model: the `builders.LoadedModel` that it runs, which `save_pretrained` writes; None: it cannot be saved.
        crop_margin: of a model that sees crops of single people: their sides in units of their boxes' longer sides;
            0: it sees whole images.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        schema: KeypointSchema,
        input_size: int,
        batch: int = 4,
        min_score: float = 0.0,
        tag_dims: tuple[int, int] = (0, 0),
        model: Any = None,
        crop_margin: float = 0.0,
    ) -> None:
        self.crop_margin = crop_margin
        self.pipeline = pipeline
        self._tag_dim, self._place_dims = tag_dims
        self._model = model
        self.schema = schema
        self.input_size = input_size
        self.batch = batch
        self.min_score = min_score

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path = DEFAULT_MODEL,
        overrides: tuple[str, ...] = (),
        device: str = "cpu",
        *,
        flip: bool | None = None,
        scales: Sequence[float] | None = None,
        size: int | None = None,
        heatmap_threshold: float | None = None,
        tag_threshold: float | None = None,
        precision: str | None = None,
        batch: int | None = None,
        min_score: float = 0.0,
    ) -> "Predictor":
        """Return a predictor of a model, with its own config; arguments that are None are the config's.

        Args:
            source: name of a shipped model, a checkpoint (``.pth``, ``.safetensors``), a run's folder, one of
                `save_pretrained`, ``"OWNER/NAME"`` or ``"OWNER/NAME@REVISION"`` on the Hugging Face Hub; or an exported
                folder or one of its ``.onnx`` files, which run by onnxruntime on the CPU and whose own flip, scales and
                precision cannot be changed.
            overrides: ``(key, value, ...)``: options to change, such as ``("TEST.REFINE", "none")``.
            device: ``"cpu"``, ``"cuda"``, or ``"auto"``: a GPU where there is one.
            flip: average with the flipped image: better, and takes twice the time.
            scales: scale factors, 1 among them; several find people of more sizes, and take longer.
            size: pixels of the input's short side.
            heatmap_threshold: peaks at or below are dropped; a joint whose best place is no better is not found.
            tag_threshold: tag distance that counts as 1; where tags alone group, it starts another person.
            precision: ``"fp32"``, ``"bf16"``, ``"fp16"`` or ``"auto"`` of the network.
            batch: images of equal shape in a forward pass, at most.
            min_score: people scored lower are left out; 0: all are returned, as the scores of a data set need them.

        Raises:
            CheckpointError: the model is missing, damaged, or not of this package.
            ConfigError: an option is wrong, or fixed in an export.
            UserError: a package is needed that is not installed.
        """
        from coupled_embedding.builders import load_predictor  # which imports what it builds

        return load_predictor(
            source, overrides, device, min_score, flip=flip, scales=scales and list(scales), size=size, batch=batch,
            heatmap_threshold=heatmap_threshold, tag_threshold=tag_threshold, precision=precision,
        )  # fmt: skip

    def save_pretrained(self, folder: str | Path, half: bool = False) -> Path:
        """Write the model, with the options it is used with, as a folder in the Hugging Face Hub's layout; return it.

        Args:
            folder: gets model.safetensors, config.json, README.md (the model card) and, if the model has one, LICENSE.
            half: store weights in half precision.

        Raises:
            UserError: one of these files exists or cannot be written, the predictor is of an export, or huggingface_hub
                is not installed.
        """
        return self._hub().save_pretrained(self._model, Path(folder).expanduser(), half)

    def push_to_hub(self, repo_id: str, half: bool = False, **options: Any) -> str:
        """Upload what `save_pretrained` writes to the Hugging Face Hub; return the commit's address.

        Args:
            repo_id: ``"OWNER/NAME"``; it is made if there is none.
            half: store weights in half precision.
            options: of huggingface_hub's ``push_to_hub``, such as ``private``, ``token`` or ``branch``.

        Raises:
            UserError: it cannot be uploaded; or as `save_pretrained`.
        """
        return self._hub().push_to_hub(self._model, repo_id, half, **options)

    def _hub(self) -> Any:
        if self._model is None:
            raise UserError("this predictor has no checkpoint to save; for an export give its checkpoint")
        try:
            from coupled_embedding.builders import hub
        except ImportError as error:
            raise UserError(f"models are saved by huggingface_hub, which is not installed: {INSTALL}") from error
        return hub

    @overload
    def __call__(self, image: ImageLike, channels: str = "bgr", boxes: ArrayLike | None = None) -> Poses: ...

    @overload
    def __call__(self, image: list[Any] | tuple[Any, ...], channels: str = "bgr") -> list[Poses]: ...

    def __call__(self, image: Any, channels: str = "bgr", boxes: ArrayLike | None = None) -> Poses | list[Poses]:
        """Return the poses in an image, best first, in its pixels; for a list of images a list.

        Args:
            image: a file; an (h, w, 3) uint8 array; a Pillow image; a (3, h, w) tensor, red, green, blue, of uint8 or
                of floats from 0 to 1; or a list of these. Images of equal shape go through the network together.
            channels: of arrays: ``"bgr"``, as OpenCV has them, or ``"rgb"``.
            boxes: (N, 4) x, y, width, height of people in the image's pixels, for a model of single people's crops,
                which finds one pose in each; not for others, nor with a list of images.

        Raises:
            DatasetError: a file cannot be read, or an image is too long.
            InputError: it is no image; also a ValueError.
            UserError: boxes are missing, or not for this model or call.
        """
        if boxes is not None:
            return self._predict_boxes(image, channels, boxes)
        images = image if isinstance(image, list | tuple) else [image]
        found = list(self._predict((Entry(one, name_of(one)) for one in images), channels))
        return found if isinstance(image, list | tuple) else found[0]

    def stream(
        self,
        source: Any,
        *,
        channels: str = "bgr",
        tracker: Tracker | None = None,
        keep_frames: bool = False,
        on_error: OnError | None = None,
    ) -> Iterator[Poses]:
        """Yield the poses of many images in order, in bounded memory; each has its ``source`` and ``frame``.

        Args:
            source: a folder, a glob, a video file, the number of a camera such as "0", a `Video`, anything that a call
                takes, or a list of these.
            channels: of arrays: ``"bgr"`` or ``"rgb"``.
            tracker: gives people ids; None: none have.
            keep_frames: keep a video's frames in ``pixels``, to draw on.
            on_error: called with the error of an image that cannot be read, which is then left out; None: raise it.

        Raises:
            DatasetError: there is nothing to read, or an image or video cannot be read.
        """
        for videos, parts in itertools.groupby(expand(source), is_video):
            found: Iterator[Poses]
            if videos:
                found = (poses for part in parts for poses in self._predict_video(part, keep_frames, on_error))
            else:
                entries = (Entry(part, name_of(part)) for part in parts)
                found = self._predict(entries, channels, _WINDOW * self.batch, on_error)
            yield from (assign_ids(poses, tracker) if tracker else poses for poses in found)

    def maps(self, image: ImageLike, channels: str = "bgr") -> tuple[Pixels, Pixels]:
        """Return what the network outputs for an image, drawn on it: heatmaps, and tags as colors (BGR both).

        Errors as for a call.
        """
        fields = self.fields(image, channels)
        return fields.draw_heatmaps(), fields.draw_tags()

    def fields(self, image: ImageLike, channels: str = "bgr") -> NetworkFields:
        """Return the heatmaps and tags that the network outputs for an image; errors as for a call."""
        pixels = to_bgr(image, channels)
        _, read = self._read(Entry(pixels, name_of(image)), "bgr", 0.0)
        return network_fields(self.pipeline, pixels, read.scales, read.geometry)

    # ---- one image after the other

    def _predict_video(self, source: Any, keep_frames: bool, on_error: OnError | None) -> Iterator[Poses]:
        try:
            video = source if isinstance(source, Video) else Video.open(source)
        except DatasetError as error:
            if on_error is None:
                raise
            on_error(error)
            return
        entries = (Entry(pixels, video.name, number) for number, pixels in enumerate(video.frames()))
        # a camera's poses are wanted at once: none waits for another frame
        window = 1 if video.is_live else _WINDOW * self.batch
        yield from self._predict(entries, "bgr", window, keep_frames=keep_frames)

    def _predict(
        self,
        entries: Iterable[Entry],
        channels: str,
        window: int = 0,
        on_error: OnError | None = None,
        keep_frames: bool = False,
    ) -> Iterator[Poses]:
        """Yield the poses of each entry that can be read, in order; arguments: `stream`, `predict_in_order`."""
        if self.pipeline.needs_compiling and not is_compiled():
            _LOG.warning("compiling the decode for this machine, once; it takes about 20 s")
        read: deque[tuple[Entry, tuple[int, int]]] = deque()

        def inputs() -> Iterator[ImageInput]:
            """Yield the network's input of each readable entry, and note the entry for its poses."""
            start = time.perf_counter()
            for entry in entries:
                try:
                    size, image = self._read(entry, channels, start)
                except DatasetError as error:
                    if on_error is None:
                        raise
                    on_error(error)
                else:
                    read.append((entry, size))
                    yield image
                start = time.perf_counter()

        depth = 0 if window == 1 else self.pipeline.threads
        for found in predict_in_order(self.pipeline, inputs(), self.input_size, self.batch, window, depth):
            entry, size = read.popleft()
            pixels = entry.image if keep_frames and isinstance(entry.image, np.ndarray) else None
            about = {"time": found.time, "source": entry.name, "frame": entry.frame, "pixels": pixels}
            threshold = self.pipeline.options.decode.joint_threshold
            left = self.pipeline.options.suppress(found.poses)
            poses = Poses.from_detections(left, self.schema, size, threshold, **about)
            poses = replace(poses, tags=self._without_places(poses.tags))
            yield poses.filtered(self.min_score) if self.min_score else poses

    def _predict_boxes(self, image: Any, channels: str, boxes: ArrayLike) -> Poses:
        """Return the pose in each box of an image, of a model of single people's crops."""
        if not self.crop_margin or isinstance(image, list | tuple):
            reason = "this call has several images" if self.crop_margin else "this model finds the people itself"
            raise UserError(f"boxes: {reason}; boxes are for one image and a model of single people's crops")
        given = np.asarray(boxes)
        if given.ndim != 2 or given.shape[1] != 4 or given.dtype.kind not in "iuf" or not np.isfinite(given).all():
            raise InputError(f"boxes: expected (N, 4) finite numbers x, y, width, height, got {short_repr(boxes)}")
        start, pixels = time.perf_counter(), to_bgr(image, channels)
        geometries = [region_geometry(square_region(box, self.crop_margin), self.input_size) for box in given]
        inputs = (self._input(pixels, geometry, time.perf_counter()) for geometry in geometries)
        found = list(predict_in_order(self.pipeline, inputs, self.input_size, self.batch))
        poses = [replace(pose, source=box) for box, part in enumerate(found) for pose in part.poses]
        poses = self.pipeline.options.suppress(poses)
        stages = {stage: sum(part.time[stage] for part in found) for stage in ("network", "decode")}
        load = time.perf_counter() - start - sum(stages.values())
        size, times = (pixels.shape[1], pixels.shape[0]), {"load": load, **stages}
        return Poses.from_detections(poses, self.schema, size, time=times, source=name_of(image))

    def _without_places(self, tags: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
        """Return mean tags (N, views · D) without each view's dimensions that hold places and move with a person."""
        if tags is None or not self._place_dims:
            return tags
        views = tags.reshape(len(tags), -1, self._tag_dim)
        return views[..., : -self._place_dims].reshape(len(tags), -1)

    def _read(self, entry: Entry, channels: str, start: float) -> tuple[tuple[int, int], ImageInput]:
        """Return an image's (width, height) and the network's input; the time counts from ``start``."""
        if self.crop_margin:
            raise UserError(
                "this model finds the joints of one person in a box: predictor(image, boxes=[[x, y, w, h]])"
            )
        pixels = to_bgr(entry.image, channels)
        size = (pixels.shape[1], pixels.shape[0])
        if too_long := aspect_error(size):
            raise DatasetError(f"{entry.name}: {too_long}")
        return size, self._input(pixels, resize_geometry(size, self.input_size), start)

    def _input(self, pixels: Pixels, geometry: ResizeGeometry, start: float) -> ImageInput:
        """Return the network's input by a geometry; the time counts from ``start``."""
        scales = [torch.from_numpy(warp_to_input(pixels, geometry, f)) for f in self.pipeline.options.scales]
        return ImageInput(tuple(scales), geometry, time.perf_counter() - start)


def assign_ids(poses: Poses, tracker: Tracker) -> Poses:
    """Return the poses of a video's next frame with the ids that a tracker gives them."""
    keypoints = np.concatenate([np.nan_to_num(poses.xy), poses.keypoint_scores[..., None]], 2)
    return poses.with_ids(tracker.update(keypoints, poses.scores, poses.boxes, poses.tags))
