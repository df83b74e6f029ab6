"""Random maps whose arithmetic is exact in float32."""

from collections.abc import Callable

import numpy as np
import pytest


def random_maps(
    seed: int, joints: int, cells: tuple[int, int], dim: int, people: int, steps: int = 64, share: float = 0.1
) -> tuple[np.ndarray, np.ndarray]:
    """Return (K, 2h, 2w) heatmaps and (K, h, w, T) tags of binary fractions.

    Doubled or quadrupled in size they stay exact, so every way to compute gives one result,
    and ties are many.

    Args:
        steps: heatmap values between 0 and 1; few make plateaus.
        share: of the heatmap's pixels that are not background; 0 leaves it empty.
    """
    random = np.random.default_rng(seed)
    height, width = cells
    heatmaps = random.integers(0, steps + 1, (joints, 2 * height, 2 * width)) / steps
    background = random.integers(-4, 3, heatmaps.shape) / 64  # below the threshold of 0.1
    heatmaps = np.where(random.random(heatmaps.shape) < share, heatmaps, background)
    centers = random.integers(-8, 9, (max(people, 1), dim)) / 4
    owner = random.integers(0, len(centers), (joints, height, width))
    noise = random.integers(-1, 2, (joints, height, width, dim)) / 4 * (random.random() < 0.7)
    return heatmaps.astype(np.float32), (centers[owner] + noise).astype(np.float32)


@pytest.fixture(scope="session")
def exact_maps() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    return random_maps
