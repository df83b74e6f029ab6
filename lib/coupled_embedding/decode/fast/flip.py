"""Maps averaged with those of the flipped image."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def mean_with_flipped(maps, flipped, flip_index):
    """Return the mean of maps (B, K, h, w) and those of the flipped images, whose joint k is ``flip_index[k]``."""
    # one pass over memory where flip, index, add and divide take four; a row is reversed on
    # its own, because a loop that reads one array forwards and one backwards is not vectorised
    out = np.empty(maps.shape, np.float32)
    width = maps.shape[3]
    reversed_row = np.empty(width, np.float32)
    for b in range(maps.shape[0]):
        for k in range(maps.shape[1]):
            source, flipped_plane = maps[b, k], flipped[b, flip_index[k]]
            for y in range(maps.shape[2]):
                for x in range(width):
                    reversed_row[width - 1 - x] = flipped_plane[y, x]
                for x in range(width):
                    out[b, k, y, x] = (source[y, x] + reversed_row[x]) / np.float32(2)
    return out
