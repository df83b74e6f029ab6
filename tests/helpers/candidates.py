"""Candidates made for tests of grouping."""

import numpy as np

from coupled_embedding.decode.peaks import Candidates


def peaks(*entries, dim=1):
    """Make one joint's candidates of (x, y, score, tag) entries."""
    tags = np.array([np.atleast_1d(e[3]) for e in entries], np.float32).reshape(-1, dim)
    return Candidates(
        np.array([e[:2] for e in entries], np.int64).reshape(-1, 2),
        np.array([e[2] for e in entries], np.float32),
        tags,
    )


def random_candidates(seed, joints, most, people, dim):
    """Candidates around few tags, scores of few values: full of equal costs."""
    random = np.random.default_rng(seed)
    centers = random.integers(-6, 7, (people, dim)) / 4
    result = []
    for _ in range(joints):
        count = int(random.integers(0, most + 1))
        scores = -np.sort(-random.integers(2, 17, count) / 16)
        tags = centers[random.integers(0, people, count)] + random.integers(-2, 3, (count, dim)) / 4
        pixels = random.integers(0, 64, (count, 2))
        result.append(peaks(*((*p, s, t) for p, s, t in zip(pixels, scores, tags, strict=True)), dim=dim))
    return result


def entries(joint):
    return list(zip(*joint.pixels.T.tolist(), joint.scores, joint.tags, strict=True))
