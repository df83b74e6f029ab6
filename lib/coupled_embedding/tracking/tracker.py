"""Identities of people over frames."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from coupled_embedding.tracking.affinity import Array, shared_oks, tag_similarity


@dataclass(frozen=True)
class Observation:
    """A person found in a frame: number of the frame, (K, 3) keypoints, area of the box, tag (T,) or None."""

    frame: int
    keypoints: Array
    area: float
    tag: Array | None


@dataclass
class Track:
    """A person: id, and the latest observations, the newest last."""

    id: int
    observations: deque[Observation]


@dataclass
class Tracker:
    sigmas: ArrayLike
    window: int = 5
    memory: int = 30
    min_affinity: float = 0.2
    tag_temperature: float = 0.5
    ignored_tag_dims: int = 0
    reduce: str = "best"
    motion: bool = True
    growth: float = 0.3
    cascade: bool = True
    width: float = 1.0
    decay: float = 0.8
    tag_mode: str = "each"
    maxlead: int = 5

    def __post_init__(self):
        self.sig = np.asarray(self.sigmas, np.float64)
        self.reset()

    def reset(self):
        self.frame, self.next_id, self.tracks = 0, 1, []

    def update(self, keypoints, scores, boxes, tags=None):
        keypoints = np.asarray(keypoints, np.float64)
        self.frame += 1
        n = len(keypoints)
        found = keypoints[..., 2] > 0 if n else np.zeros((0, len(self.sig)), bool)
        kp = np.where(found[..., None], keypoints, 0.0) if n else np.zeros((0, len(self.sig), 3))
        ids = np.full(n, -1, np.int64)
        self.tracks = [t for t in self.tracks if self.frame - t.observations[-1].frame <= self.memory]
        if tags is not None:
            tags = np.asarray(tags, np.float64)
            if self.ignored_tag_dims:
                tags = tags[:, : -self.ignored_tag_dims]
        groups = [self.tracks]
        if self.cascade:
            groups = [[t for t in self.tracks if self.frame - t.observations[-1].frame <= 1], [t for t in self.tracks if self.frame - t.observations[-1].frame > 1]]
        owner = [None] * n
        for group in groups:
            free = np.flatnonzero(ids < 0)
            if not len(free) or not group:
                continue
            aff = np.stack([self._aff(t, kp[free], None if tags is None else tags[free]) for t in group])
            aff = np.where(aff >= self.min_affinity, aff, 0)
            for r, c in zip(*linear_sum_assignment(-aff)):
                if aff[r, c] > 0:
                    ids[free[c]] = group[r].id
                    owner[free[c]] = group[r]
        for i in range(n):
            if owner[i] is None:
                owner[i] = Track(self.next_id, deque(maxlen=self.window))
                ids[i] = self.next_id
                self.next_id += 1
                self.tracks.append(owner[i])
            owner[i].observations.append(Observation(self.frame, kp[i], float(boxes[i][2] * boxes[i][3]), None if tags is None else tags[i]))
        return ids

    def _aff(self, track, kp, tags):
        obs = track.observations
        area = max(o.area for o in obs)
        v = self._velocity(track) if self.motion else np.zeros(2)
        newest = obs[-1].frame
        ks, ws = [], []
        for o in obs:
            k = o.keypoints.copy()
            k[:, :2] += v * (min(self.frame, newest + self.maxlead) - o.frame)
            ks.append(k)
            ws.append(self.width * (1 + self.growth * (self.frame - (newest if self.motion else o.frame) - 1)))
        a = shared_oks(np.stack(ks), np.full(len(obs), area), kp, self.sig, np.array(ws))
        if tags is not None:
            ot = np.stack([o.tag for o in obs])
            if self.tag_mode == "mean":
                ot = np.repeat(ot.mean(0)[None], len(ot), 0)
            a = a * tag_similarity(ot, tags, self.tag_temperature)
        if self.reduce == "best":
            return a.max(0)
        if self.reduce == "last":
            return a[-1]
        w = self.decay ** np.arange(len(obs))[::-1]
        return (a * w[:, None]).sum(0) / w.sum()

    def _velocity(self, track):
        a, b = track.observations[0], track.observations[-1]
        both = (a.keypoints[:, 2] > 0) & (b.keypoints[:, 2] > 0)
        if a is b or not both.any():
            return np.zeros(2)
        return np.median((b.keypoints - a.keypoints)[both, :2], 0) / (b.frame - a.frame)
