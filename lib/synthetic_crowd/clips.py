"""Short clips with true identities: people cross each other, enter and leave the view, and come back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from synthetic_crowd.layout import Stage, sample_stage, sample_target
from synthetic_crowd.motion import sample_motion
from synthetic_crowd.scene import Scene, furnish, take
from synthetic_crowd.settings import CrowdSettings
from synthetic_crowd.skeleton import sample_bodies

FPS = 12.0
_PERSON_HEIGHT = (0.3, 0.75)  # shares of the image's height
_MOST_FRAMES = 100_000


@dataclass(frozen=True)
class ClipFrame:
    """A frame: scene, and ids (N,) int64 of its people, from 1, the same throughout the clip."""

    scene: Scene
    ids: np.ndarray


def render_clip(settings: CrowdSettings, seed: int, index: int, frames: int, fps: float = FPS) -> Iterator[ClipFrame]:
    """Yield the frames of clip number `index` (from 0) of the crowd `seed`: the same pixels on every call.

    The camera stands still. Everyone in the view is drawn; labelled are those of whom enough is seen, as in
    a scene, so a frame can be without labels, and a person can vanish behind another and come back.

    Raises ValueError that names the argument: seed, index, frames or fps.
    """
    check_clip(seed, index, frames, fps)
    stage_source, people_source, looks_source, image_source, camera_source = np.random.SeedSequence(
        (seed, index)
    ).spawn(5)
    rngs = [np.random.default_rng(source) for source in (stage_source, looks_source, image_source)]
    people_rng = np.random.default_rng(people_source)
    count = int(people_rng.integers(settings.min_people, settings.max_people + 1))
    stage = _sample_stage(settings, count, rngs[0])
    motion = sample_motion(sample_bodies(people_rng, count), stage, np.arange(frames) / fps, people_rng)
    studio = furnish(settings, motion.people(0), stage, tuple(rngs), motion.places[..., ::2].reshape(-1, 2))
    for frame in range(frames):
        # the camera's exposure, color cast and grain are the clip's
        scene, numbers = take(studio, motion.people(frame), np.random.default_rng(camera_source), False)
        yield ClipFrame(scene, numbers.astype(np.int64) + 1)


def check_clip(seed: int, index: int, frames: int, fps: float) -> None:
    """Raise ValueError naming the argument that is wrong."""
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index are {seed} and {index}; both must be 0 or more")
    if not 2 <= frames <= _MOST_FRAMES:
        raise ValueError(f"frames is {frames}; it must be from 2 to {_MOST_FRAMES}")
    if not 0 < fps < np.inf:
        raise ValueError(f"fps is {fps}; it must be a number above 0")


def _sample_stage(settings: CrowdSettings, count: int, rng: np.random.Generator) -> Stage:
    """A view from such a distance that whole people fit and are not tiny."""
    target = sample_target(settings, rng)
    low, high = _PERSON_HEIGHT
    while True:
        stage = sample_stage(settings, target, count, rng)
        if low <= 1.65 * stage.camera.focal / (stage.distance * settings.height) <= high and stage.distance > 2.5:
            return stage
