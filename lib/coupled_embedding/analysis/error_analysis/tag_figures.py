"""What the tags of a data set's people look like: correlation, rank, sparsity, scale.

All figures are of people's mean tags over their true joints, D values of the photo itself; those
of the mirrored photo, which grouping sees too, would only say the same twice.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.analysis.error_analysis.joint_tags import JointTags

Tags = NDArray[np.float64]

# an entry of a tag is near zero below this share of the tag's largest
NEAR_ZERO = 0.1
_SCALE_BINS = 8
_SHOWN_PEOPLE = 400


@dataclass(frozen=True)
class PersonTags:
    """The people of a photo who have a present joint.

    Attributes:
        means: (N, D) their mean tags.
        true_scales: (N,) square root of the box's area in input pixels, over S.
    """

    means: Tags
    true_scales: NDArray[np.float64]


@dataclass(frozen=True)
class ScaleFit:
    """The scale that mean tags tell, Σ c_d·|m_d| / Σ |m_d| with c_d = (d + ½)/D, against the true one.

    Attributes:
        correlation: Pearson's.
        mean_error: mean absolute difference, in units of S.
        true: mean true scale of each of at most eight bins of equally many people.
        lower, median, upper: quartiles of the told scales of each bin.
        people: (true, told) of at most 400 people, every n-th.
    """

    correlation: float
    mean_error: float
    true: list[float]
    lower: list[float]
    median: list[float]
    upper: list[float]
    people: list[tuple[float, float]]


@dataclass(frozen=True)
class TagFigures:
    """Figures of a data set's tags; NaN where nothing can be said.

    Attributes:
        people: with a present joint.
        photos: with two such people or more; correlation and ranks are of these.
        dims: D.
        correlation: (D, D) of the covariance of mean tags about their photo's mean, pooled over
            photos; NaN where a dimension does not vary.
        mean_correlation: mean of its absolute values beside the diagonal.
        spectrum: the covariance's eigenvalues over their sum, largest first.
        participation: (Σλ)²/Σλ², 1 to D.
        entropy_rank: exp(-Σ p·ln p) of p = λ/Σλ, 1 to D.
        hoyer: mean over people of (√D − Σ|m|/‖m‖)/(√D − 1), 1: one dimension alone is used.
        near_zero: share of entries below a tenth of their tag's largest.
        magnitudes: (D,) mean |m_d|.
        scale: told against true scale; None without people.
    """

    people: int
    photos: int
    dims: int
    correlation: list[list[float]]
    mean_correlation: float
    spectrum: list[float]
    participation: float
    entropy_rank: float
    hoyer: float
    near_zero: float
    magnitudes: list[float]
    scale: ScaleFit | None


def person_tags(tags: JointTags) -> PersonTags:
    """Return a photo's mean tags."""
    chosen = tags.present.any(1)
    return PersonTags(tags.means(tags.plain)[chosen], tags.true_scales[chosen])


def tag_figures(photos: Sequence[PersonTags], dims: int) -> TagFigures:
    """Sum a data set up.

    Args:
        photos: an entry a photo, people or not.
        dims: D.
    """
    crowds = [photo.means for photo in photos if len(photo.means) >= 2]
    covariance = within_photo_covariance(crowds, dims)
    correlation = _correlation(covariance)
    means = np.concatenate([photo.means for photo in photos]) if photos else np.zeros((0, dims))
    scales = np.concatenate([photo.true_scales for photo in photos]) if photos else np.zeros(0)
    spectrum = _spectrum(covariance)
    beside = np.abs(correlation[~np.eye(dims, dtype=bool)])
    return TagFigures(
        people=len(means),
        photos=len(crowds),
        dims=dims,
        correlation=correlation.tolist(),
        mean_correlation=_mean(beside[np.isfinite(beside)]),
        spectrum=spectrum.tolist(),
        participation=1 / float((spectrum**2).sum()) if len(spectrum) else math.nan,
        entropy_rank=_entropy_rank(spectrum),
        hoyer=_mean(hoyer_sparsity(means)),
        near_zero=_mean(_near_zero(means)),
        magnitudes=np.abs(means).mean(0).tolist() if len(means) else [math.nan] * dims,
        scale=_scale_fit(scales, told_scales(means)) if len(means) else None,
    )


def within_photo_covariance(crowds: Sequence[Tags], dims: int) -> Tags:
    """Return (D, D): Σ (m − m̄)(m − m̄)ᵀ over people, m̄ their photo's mean, over Σ (people − 1)."""
    scatter, freedom = np.zeros((dims, dims)), 0
    for means in crowds:
        centred = means - means.mean(0)
        scatter += centred.T @ centred
        freedom += len(means) - 1
    return scatter / freedom if freedom else np.full((dims, dims), math.nan)


def _correlation(covariance: Tags) -> Tags:
    spread = np.sqrt(np.diag(covariance))
    spread = np.where(spread > 0, spread, math.nan)
    return np.clip(covariance / np.outer(spread, spread), -1.0, 1.0)


def _spectrum(covariance: Tags) -> NDArray[np.float64]:
    """Return the eigenvalues over their sum, largest first; none where nothing varies."""
    trace = np.trace(covariance)
    if not trace > 0:
        return np.zeros(0)
    values = np.maximum(np.linalg.eigvalsh(covariance)[::-1], 0.0)
    return np.asarray(values / values.sum())


def _entropy_rank(spectrum: NDArray[np.float64]) -> float:
    present = spectrum[spectrum > 0]
    return float(np.exp(-(present * np.log(present)).sum())) if len(present) else math.nan


def hoyer_sparsity(means: Tags) -> NDArray[np.float64]:
    """Return Hoyer's sparsity of tags (N, D) that are not all zero, in [0, 1]; none where D is 1."""
    root = math.sqrt(means.shape[1])
    norms = np.linalg.norm(means, axis=1)
    chosen = norms > 0
    if means.shape[1] == 1:
        return np.zeros(0)
    return np.asarray((root - np.abs(means[chosen]).sum(1) / norms[chosen]) / (root - 1))


def _near_zero(means: Tags) -> NDArray[np.bool_]:
    magnitudes = np.abs(means)
    return np.asarray(magnitudes < NEAR_ZERO * magnitudes.max(1, keepdims=True, initial=0.0))


def told_scales(means: Tags) -> NDArray[np.float64]:
    """Return the person scales (N,) that mean tags (N, D) tell, in units of the input's side."""
    magnitudes = np.abs(means)
    centers = (np.arange(means.shape[1]) + 0.5) / means.shape[1]
    return np.asarray(magnitudes @ centers / np.maximum(magnitudes.sum(1), 1e-12))


def _scale_fit(true: NDArray[np.float64], told: NDArray[np.float64]) -> ScaleFit:
    order = np.argsort(true, kind="stable")
    bins = [part for part in np.array_split(order, _SCALE_BINS) if len(part)]
    quartiles = np.array([np.percentile(told[part], (25, 50, 75)) for part in bins])
    shown = order[:: -(-len(order) // _SHOWN_PEOPLE)]
    varied = len(true) > 1 and true.std() > 0 and told.std() > 1e-12
    return ScaleFit(
        float(np.corrcoef(true, told)[0, 1]) if varied else math.nan,
        float(np.abs(true - told).mean()),
        [float(true[part].mean()) for part in bins],
        quartiles[:, 0].tolist(),
        quartiles[:, 1].tolist(),
        quartiles[:, 2].tolist(),
        [(float(true[i]), float(told[i])) for i in shown],
    )


def _mean(values: NDArray) -> float:
    return float(values.mean()) if values.size else math.nan
