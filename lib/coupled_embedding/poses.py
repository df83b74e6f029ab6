"""The people found in one image, as users get them: arrays, single people, files, other libraries' types."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.outputs import Pose
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.data.sources import ImageLike, Pixels, to_bgr
from coupled_embedding.evaluation.results import poses_to_results
from coupled_embedding.utils.atomic import atomic_write
from coupled_embedding.utils.errors import UserError
from coupled_embedding.visualize import MIN_DRAWN_SCORE, draw_poses, filter_poses, save_image

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Person(Pose):
    """One of an image's `Poses`: ``keypoints`` (K, 3) x, y, score, with NaN, NaN, 0 for a joint that was not found.

    Attributes:
        box: (4,) x, y, width, height around the found joints.
        id: of the person in a video, where people were tracked.
    """

    box: Floats = field(default_factory=lambda: np.full(4, np.nan))
    id: int | None = None


@dataclass(frozen=True, eq=False)
class Poses(Sequence[Person]):
    """The N people found in an image, best first; K joints each, in the image's pixels.

    A sequence of `Person`: ``poses[0].keypoints``, ``len(poses)``, ``for person in poses``; ``poses[:3]`` is a `Poses`.

    Attributes:
        xy: (N, K, 2) float64: x, y; NaN where a joint was not found.
        keypoint_scores: (N, K) float64, 0 where a joint was not found.
        scores: (N,) float64 of the whole people.
        boxes: (N, 4) float64: x, y, width, height around the joints found; of no width and height for one joint, NaN
            without any.
        schema: the joints, their sides and limbs.
        image_size: (width, height) in pixels.
        ids: (N,) int64 of people in a video, where they were tracked; else None.
        tags: (N, T) float32: mean tags, with flip of both views; None: unknown.
        sources: (N,) int64: numbers of the given boxes that the people were found in; None: no boxes were given.
        time: seconds: ``load`` (reading and resizing), ``network``, ``decode``; of an image in a batch its share, and
            on a GPU the network's start alone, as it runs on during the decode of others.
        source: the file, or ``camera 0``, or ``image``.
        frame: number of the frame in a video, from 0; None: it is an image.
        pixels: (height, width, 3) uint8 BGR, for frames of videos if asked for: `draw` and `save` use them.
        decoded: (N, K, 3): x, y, score as decode left them, also of joints that were not found; `to_coco` alone uses
            it, as the scores of a data set count every joint.
    """

    xy: Floats
    keypoint_scores: Floats
    scores: Floats
    boxes: Floats
    schema: KeypointSchema
    image_size: tuple[int, int]
    ids: NDArray[np.int64] | None = None
    tags: NDArray[np.float32] | None = None
    time: Mapping[str, float] = field(default_factory=dict)
    source: str = "image"
    frame: int | None = None
    pixels: Pixels | None = None
    decoded: Floats | None = None
    sources: NDArray[np.int64] | None = None

    @classmethod
    def from_detections(
        cls,
        detected: Sequence[Pose],
        schema: KeypointSchema,
        image_size: tuple[int, int],
        min_joint_score: float = 0.0,
        **about: Any,
    ) -> "Poses":
        """Return what decode found, best first.

        Args:
            detected: of one image.
            schema: the joints.
            image_size: (width, height) in pixels.
            min_joint_score: a joint is found if its score is above, and above 0.
            about: ``time``, ``source``, ``frame``, ``pixels``.
        """
        best_first = sorted(detected, key=lambda pose: -pose.score)
        keypoints = np.array([pose.keypoints for pose in best_first], np.float64).reshape(-1, schema.num_joints, 3)
        found = (keypoints[..., 2] > max(min_joint_score, 0.0)) & np.isfinite(keypoints).all(-1)
        xy = np.where(found[..., None], keypoints[..., :2], np.nan)
        tags = [pose.tag for pose in best_first if pose.tag is not None]
        sources = [pose.source for pose in best_first if pose.source is not None]
        return cls(
            xy,
            np.where(found, keypoints[..., 2], 0.0),
            np.array([pose.score for pose in best_first], np.float64),
            _boxes(xy),
            schema,
            image_size,
            tags=np.stack(tags) if tags and len(tags) == len(best_first) else None,
            decoded=keypoints,
            sources=np.array(sources, np.int64) if sources and len(sources) == len(best_first) else None,
            **about,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The K joints' names."""
        return self.schema.joints

    @property
    def skeleton(self) -> tuple[tuple[int, int], ...]:
        """Pairs of joint numbers that a limb connects."""
        return self.schema.skeleton

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Person]:
        return (self[number] for number in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Person: ...

    @overload
    def __getitem__(self, index: "slice | NDArray[Any] | list[int]") -> "Poses": ...

    def __getitem__(self, index: Any) -> "Person | Poses":
        """Return one person, or for a slice, numbers or a mask (N,) some of them."""
        if not isinstance(index, int | np.integer):
            return self._select(np.arange(len(self))[index])
        keypoints = np.concatenate([self.xy[index], self.keypoint_scores[index][:, None]], 1)
        tag, number, source = (None if part is None else part[index] for part in (self.tags, self.ids, self.sources))
        identity, box = (None if value is None else int(value) for value in (number, source))
        return Person(keypoints, float(self.scores[index]), tag, box, box=self.boxes[index], id=identity)

    def _select(self, people: NDArray[np.intp]) -> "Poses":
        names = ("xy", "keypoint_scores", "scores", "boxes", "ids", "tags", "decoded", "sources")
        parts = {name: getattr(self, name) for name in names}
        return replace(self, **{name: part[people] for name, part in parts.items() if part is not None})

    def filtered(self, min_score: float | None = None) -> "Poses":
        """Return the people scored at least ``min_score``; None: those worth drawing, as `visualize.filter_poses`."""
        if min_score is not None:
            return self[self.scores >= min_score]
        return self[: len(filter_poses(self))]  # they are the first ones

    def with_ids(self, ids: Sequence[int] | NDArray[np.integer]) -> "Poses":
        """Return the same people with the ids (N,) of a tracker."""
        numbers = np.asarray(ids, np.int64)
        if numbers.shape != (len(self),):
            raise ValueError(f"expected {len(self)} ids, one a person, got an array {numbers.shape}")
        return replace(self, ids=numbers)

    # ---- as other types

    def to_coco(self, image_id: int, category_id: int = 1) -> list[dict[str, Any]]:
        """Return entries of a COCO results file: ``image_id``, ``category_id``, ``keypoints`` (3·K), ``score``.

        A joint that was not found has the place and score that decode gave it, as in a test of a data set.
        """
        keypoints = self.decoded
        if keypoints is None:
            keypoints = np.concatenate([np.nan_to_num(self.xy), self.keypoint_scores[..., None]], 2)
        poses = [Pose(person, float(score)) for person, score in zip(keypoints, self.scores, strict=True)]
        return poses_to_results({image_id: poses}, category_id)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, rounded to a thousandth; keypoints by name as [x, y, score], None if not found."""
        about: dict[str, Any] = {"source": self.source}
        if self.frame is not None:
            about["frame"] = self.frame
        time = {stage: round(seconds, 6) for stage, seconds in self.time.items()}
        people = [self._person_dict(person) for person in self]
        return about | {"image_size": list(self.image_size), "time": time, "predictions": people}

    def _person_dict(self, person: Person) -> dict[str, Any]:
        points = {
            name: None if np.isnan(point[0]) else [round(float(value), 3) for value in point]
            for name, point in zip(self.names, person.keypoints, strict=True)
        }
        box = None if np.isnan(person.box).any() else [round(float(value), 3) for value in person.box]
        identity = {} if person.id is None else {"id": person.id}
        return identity | {"score": round(person.score, 4), "bbox": box, "keypoints": points}

    def to_json(self, indent: int | None = None) -> str:
        """Return `to_dict` as JSON text, on one line or indented; it has no NaN."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def to_supervision(self) -> Any:
        """Return a ``supervision.KeyPoints`` (0.29 or newer): joints that were not found are NaN there too.

        Raises:
            UserError: supervision is missing or older.
        """
        try:
            from supervision import KeyPoints

            return KeyPoints(
                xy=self.xy.astype(np.float32),
                class_id=np.zeros(len(self), int),
                keypoint_confidence=self.keypoint_scores.astype(np.float32),
                detection_confidence=self.scores.astype(np.float32),
                visible=self.keypoint_scores > 0,
                data={} if self.ids is None else {"tracker_id": self.ids},
            )
        except (ImportError, TypeError) as error:
            raise UserError(
                "to_supervision needs supervision 0.29 or newer: pip install 'supervision>=0.29'"
            ) from error

    def to_fiftyone(self, label: str = "person") -> Any:
        """Return a ``fiftyone.Keypoints`` for a sample's field: joints that were not found are NaN there too.

        Places are relative to the image's size, confidences a joint's; ``score`` is the person's, ``index`` its id.

        Raises:
            UserError: fiftyone is not installed.
        """
        try:
            from fiftyone import Keypoint, Keypoints
        except ImportError as error:
            raise UserError("to_fiftyone needs fiftyone: pip install fiftyone") from error
        people = [
            Keypoint(
                label=label,
                points=(person.keypoints[:, :2] / self.image_size).tolist(),
                confidence=person.keypoints[:, 2].tolist(),
                index=person.id,
                score=person.score,
            )
            for person in self
        ]
        return Keypoints(keypoints=people)

    # ---- drawn and saved

    def draw(self, image: ImageLike | None = None, min_score: float | None = None, channels: str = "bgr") -> Pixels:
        """Return the image, BGR, with the people drawn on it; people with ids keep their color over a video.

        Args:
            image: anything that `to_bgr` takes, of the size of the predicted one; None: that one, if it was a file.
            min_score: people scored lower are left out; None: those not worth drawing, as `visualize.filter_poses`.
            channels: of an array, ``"bgr"`` or ``"rgb"``.

        Raises:
            UserError: the image is missing, or another.
        """
        pixels = self.pixels if image is None else to_bgr(image, channels)
        if pixels is None:
            if self.frame is not None or not Path(self.source).is_file():
                raise UserError(f"{self.source}: not a file that can be read again; give the image to draw on")
            pixels = to_bgr(self.source)
        if (pixels.shape[1], pixels.shape[0]) != tuple(self.image_size):
            width, height = self.image_size
            raise UserError(
                f"these poses are of an image of {width}×{height} pixels, not {pixels.shape[1]}×{pixels.shape[0]}"
            )
        people = self.filtered(min_score)
        ids = None if people.ids is None else people.ids.tolist()
        return draw_poses(pixels, people, self.schema, min_score=MIN_DRAWN_SCORE, ids=ids)

    def save(self, path: str | Path, image: ImageLike | None = None, overwrite: bool = False) -> Path:
        """Write a file: ``.json``: all people; ``.jpg`` or ``.png``: those worth drawing on the image, as `draw`.

        Raises:
            UserError: the file exists and ``overwrite`` is False, its ending is another, or it cannot be written.
        """
        path = Path(path).expanduser()
        if path.exists() and not overwrite:
            raise UserError(f"{path} exists; delete it first, or save with overwrite=True")
        if path.suffix.lower() == ".json":
            atomic_write(path, self.to_json(indent=1) + "\n", "the poses")
        else:
            save_image(path, self.draw(image))
        return path


def _boxes(xy: Floats) -> Floats:
    """Return (N, 4) x, y, width, height around the points (N, K, 2) that are not NaN; NaN without any."""
    known = ~np.isnan(xy[..., :1])
    low = np.where(known, xy, np.inf).min(1, initial=np.inf)
    high = np.where(known, xy, -np.inf).max(1, initial=-np.inf)
    boxes = np.concatenate([low, high - low], 1)
    return np.where(known.any(1), boxes, np.nan)
