"""How alike people of one frame are to those of earlier frames: OKS of poses, similarity of tags."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def shared_oks(earlier: Array, areas: Array, later: Array, sigmas: Array, widths: Array | float = 1.0) -> Array:
    """Compare poses by OKS over the joints that both have.

    The mean over these joints of exp(-d² / (2 · area · (2σ · width)²)). A joint that one of the two lacks does not count,
    neither for nor against; poses that share no joint have OKS 0.

    Args:
        earlier: (M, K, 3) x, y in image pixels, score; a joint is missing where the score is 0.
        areas: (M,) of these people, square image pixels.
        later: (N, K, 3) likewise.
        sigmas: (K,) of the schema.
        widths: (M,) or one number: factor of the tolerated distances; 1 is OKS itself.

    Returns:
        (M, N) in [0, 1].
    """
    shared = (earlier[:, None, :, 2] > 0) & (later[None, :, :, 2] > 0)  # (M, N, K)
    squares = ((earlier[:, None, :, :2] - later[None, :, :, :2]) ** 2).sum(-1)
    variances = np.maximum(areas, 1.0)[:, None, None] * (2 * sigmas) ** 2 * np.reshape(widths, (-1, 1, 1)) ** 2
    likeness = np.where(shared, np.exp(-squares / (2 * variances)), 0.0)
    return likeness.sum(-1) / np.maximum(shared.sum(-1), 1)


def tag_similarity(earlier: Array, later: Array, temperature: float) -> Array:
    """Compare mean tags (M, T) and (N, T) by exp(-‖a - b‖² / (2 · temperature²)): (M, N) in [0, 1]."""
    squares = ((earlier[:, None] - later[None]) ** 2).sum(-1)
    return np.exp(-squares / (2 * temperature**2))
