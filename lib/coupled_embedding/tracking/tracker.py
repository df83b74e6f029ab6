"""Identities of people over the frames of a video."""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from coupled_embedding.tracking.affinity import Array, Observation, affinities


@dataclass(frozen=True)
class Track:
    """A person who is tracked: id, and the latest observations, the newest last."""

    id: int
    observations: deque[Observation]


class Tracker:
    """Gives the people of each frame of a video the ids of the people of earlier frames.

    A person of a frame and a track are as alike as the best of OKS × tag similarity over the track's last
    observations, each moved along at the track's velocity (`affinity.affinities`). The assignment with the largest sum
    decides; whoever is left gets a new id. Ids count from 1 and are never used again. A person who is not found keeps
    the id for `memory` frames.

    Example:

    ```python
    tracker = Tracker([0.08] * 17)
    for x in (10, 12, 14):  # three frames with one person
        keypoints = np.full((1, 17, 3), x)  # (N, K, 3)
        print(tracker.update(keypoints, scores=[0.9], boxes=[[x, x, 40, 90]]))  # [1]
    ```

    Attributes:
        frame: number of the last frame, from 1; 0 before the first.
        tracks: of the people seen within the last `memory` frames, by id.

    Args:
        sigmas: (K,) of the schema.
        window: observations of a person to compare with.
        memory: frames without a person after which the id is given up.
        min_affinity: in (0, 1]: a person less alike to a track is not the same.
        tag_temperature: t of the similarity of tags, exp(-‖a - b‖² / 2t²); networks differ, see docs/experiments.md.
        ignored_tag_dims: trailing dimensions of the tags to leave out, such as those that move with the person.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        sigmas: ArrayLike,
        *,
        window: int = 5,
        memory: int = 30,
        min_affinity: float = 0.1,
        tag_temperature: float = 1.5,
        ignored_tag_dims: int = 0,
    ) -> None:
        self.sigmas = np.asarray(sigmas, np.float64)
        if self.sigmas.ndim != 1 or not self.sigmas.size or not ((self.sigmas > 0) & np.isfinite(self.sigmas)).all():
            raise ValueError(f"sigmas must be a number above 0 for each joint, got {sigmas!r}")
        for name, value, least in (
            ("window", window, 1),
            ("memory", memory, 0),
            ("ignored_tag_dims", ignored_tag_dims, 0),
        ):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number from {least}, got {value!r}")
        if not 0 < min_affinity <= 1:
            raise ValueError(f"min_affinity must be above 0 and at most 1, got {min_affinity}")
        if not 0 < tag_temperature < np.inf:
            raise ValueError(f"tag_temperature must be a number above 0, got {tag_temperature}")
        self.window, self.memory = window, memory
        self.min_affinity, self.tag_temperature = min_affinity, tag_temperature
        self.ignored_tag_dims = ignored_tag_dims
        self.reset()

    def reset(self) -> None:
        """Forget everyone, as before the first frame of another video; ids start from 1 again."""
        self.frame = 0
        self.tracks: list[Track] = []
        self._next_id = 1

    def update(
        self, keypoints: ArrayLike, scores: ArrayLike, boxes: ArrayLike, tags: ArrayLike | None = None
    ) -> NDArray[np.int64]:
        """Return the ids (N,) of the next frame's people; their order does not matter.

        Args:
            keypoints: (N, K, 3) x, y in image pixels, score; a joint is missing where the score is 0 or less, and its
                x and y may be anything. N may be 0, then an empty list will do.
            scores: (N,); of several new people the best gets the lowest id.
            boxes: (N, 4) x, y, width, height in image pixels.
            tags: (N, D) mean tags (`mean_tags_of`), or None: OKS alone.

        Raises:
            ValueError: a shape is wrong, or a number is not finite. The frame does not count then.
        """
        people = self._people(keypoints, scores, boxes, tags)
        ids = np.zeros(len(people), np.int64)
        order = sorted(range(len(people)), key=lambda person: people[person][0])
        found = [people[person][1] for person in order]
        self.frame += 1
        tracks = [track for track in self.tracks if self.frame - track.observations[-1].frame <= self.memory]
        owners = self._assign(tracks, found)
        for person, observation, owner in zip(order, found, owners, strict=True):
            if owner is None:
                owner = Track(self._next_id, deque(maxlen=self.window))
                self._next_id += 1
                tracks.append(owner)
            owner.observations.append(observation)
            ids[person] = owner.id
        self.tracks = tracks
        return ids

    def _assign(self, tracks: list[Track], found: list[Observation]) -> list[Track | None]:
        """Return the track of each person found, None for a new one."""
        owners: list[Track | None] = [None] * len(found)
        if not tracks or not found:
            return owners
        tags = None if found[0].tag is None else np.stack([person.tag for person in found if person.tag is not None])
        keypoints = np.stack([person.keypoints for person in found])
        seen = [track.observations for track in tracks]
        affinity = affinities(
            seen, self.frame, keypoints, tags, self.sigmas, self.tag_temperature, self.window
        )  # (T, N)
        # what is too unlike is no better than nothing and must not push others aside
        affinity[affinity < self.min_affinity] = 0.0
        for track, person in zip(*linear_sum_assignment(affinity, maximize=True), strict=True):
            if affinity[track, person] > 0:
                owners[person] = tracks[track]
        return owners

    def _people(
        self, keypoints: ArrayLike, scores: ArrayLike, boxes: ArrayLike, tags: ArrayLike | None
    ) -> list[tuple[tuple[float, ...], Observation]]:
        """Return the next frame's people, checked, each with a key that orders them whatever their order was."""
        points = np.asarray(keypoints, np.float64)
        count, num_joints = len(points), len(self.sigmas)
        points = _checked("keypoints", points, (count, num_joints, 3), finite=False)
        found = points[..., 2] > 0
        points = np.where(found[..., None], points, np.where(np.isnan(points[..., 2:]), np.nan, 0.0))
        _check_finite("keypoints", points)
        values = _checked("scores", scores, (count,))
        rectangles = _checked("boxes", boxes, (count, 4))
        if (rectangles[:, 2:] < 0).any():
            raise ValueError("boxes must be x, y, width, height with widths and heights from 0")
        own_tags = None if tags is None else self._checked_tags(np.asarray(tags, np.float64), count)
        people = []
        for n in range(count):
            tag = None if own_tags is None else own_tags[n]
            key = (-values[n], *rectangles[n], *points[n].ravel(), *(() if tag is None else tag))
            people.append((key, Observation(self.frame + 1, points[n], float(rectangles[n, 2:].prod()), tag)))
        return people

    def _checked_tags(self, tags: Array, count: int) -> Array | None:
        """Return the dimensions that count, None if there are no people."""
        if not count:
            return None
        dims = tags.shape[-1] if tags.ndim == 2 else -1
        if dims <= self.ignored_tag_dims:
            wanted = f"({count}, D), D above ignored_tag_dims = {self.ignored_tag_dims}"
            raise ValueError(f"tags must have the shape {wanted}, got {tags.shape}")
        kept = _checked("tags", tags, (count, dims))[:, : dims - self.ignored_tag_dims]
        before = next((o.tag for track in self.tracks for o in track.observations if o.tag is not None), None)
        if before is not None and len(before) != kept.shape[1]:
            raise ValueError(f"tags have {dims} dimensions, in earlier frames {len(before) + self.ignored_tag_dims}")
        return kept


def _checked(name: str, values: ArrayLike, shape: tuple[int, ...], finite: bool = True) -> Array:
    array = np.asarray(values, np.float64)
    if array.size == 0 and shape[0] == 0:
        return np.zeros(shape)
    if array.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}, got {array.shape}")
    if finite:
        _check_finite(name, array)
    return array


def _check_finite(name: str, array: Array) -> None:
    if not np.isfinite(array).all():
        person = int(np.argwhere(~np.isfinite(array))[0, 0])
        raise ValueError(f"{name} of person {person} of the frame are not finite")
