"""The tags that a network outputs at the annotated joints, and what they are like: correlation, rank, sparsity, scale.

Tags are summarized as people's mean tags over their annotated joints, D values of the image itself; the flipped image,
whose tags grouping uses too, would only repeat them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.geometry import ResizeGeometry, apply_affine
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.decode.aggregate import ImageMaps

Array = NDArray[np.float64]

NEAR_ZERO = 0.1  # an entry of a tag is near zero below this share of the tag's largest
_SCALE_BINS = 8
_SHOWN_PEOPLE = 400


@dataclass(frozen=True)
class JointTags:
    """Tags at the annotated joints of an image's N people, as grouping uses them: D values, T = 2·D with flip."""

    values: Array  # (N, K, T) of the image itself, then of the flipped image; 0 where not present
    present: NDArray[np.bool_]  # (N, K) labelled and inside the input
    dims: int  # D
    true_scales: Array  # (N,) square root of each person's box area in input pixels, over the input's side S

    def means(self) -> Array:
        """Return each person's mean tag (N, T) over the present joints; 0 without any."""
        return self.values.sum(1) / np.maximum(self.present.sum(1), 1)[:, None]


def joint_tags(record: ImageRecord, maps: ImageMaps, geometry: ResizeGeometry, input_size: int) -> JointTags:
    """Read the tags under the pixels of annotated joints, upsampled to the input as decode does."""
    width, height = geometry.base_size
    pixels = np.floor(apply_affine(geometry.to_input(), record.keypoints[..., :2])).astype(np.int64)  # (N, K, 2)
    present = (record.keypoints[..., 2] > 0) & (pixels >= 0).all(-1) & (pixels < (width, height)).all(-1)
    dims = maps.tags[0].values.shape[-1]
    values = np.zeros((*present.shape, dims * len(maps.tags)))
    for joint in range(present.shape[1]):
        people = np.flatnonzero(present[:, joint])
        views = [view.at(joint, pixels[people, joint], (height, width)) for view in maps.tags]
        values[people, joint] = np.concatenate(views, 1)
    sides = np.sqrt(np.maximum(record.boxes[:, 2] * record.boxes[:, 3], 0.0).astype(np.float64))
    return JointTags(values, present, dims, sides * width / geometry.side / input_size)


@dataclass(frozen=True)
class PersonTags:
    """Mean tags (N, D) and true scales (N,) of the N people of an image who have a present joint."""

    means: Array
    true_scales: Array


def person_tags(tags: JointTags) -> PersonTags:
    """Return an image's mean tags, without those of the flipped image."""
    chosen = tags.present.any(1)
    return PersonTags(tags.means()[chosen, : tags.dims], tags.true_scales[chosen])


@dataclass(frozen=True)
class ScaleFit:
    """The scale that mean tags encode, Σ c_d·|m_d| / Σ |m_d| with c_d = (d + ½)/D, against the true one."""

    correlation: float  # Pearson's
    mean_error: float  # mean absolute difference, in units of the input's side
    true: list[float]  # mean true scale of each of at most eight bins of equally many people
    lower: list[float]  # quartiles of the encoded scales of each bin
    median: list[float]
    upper: list[float]
    people: list[tuple[float, float]]  # (true, encoded) of at most 400 people, every n-th


@dataclass(frozen=True)
class TagSummary:
    """Statistics of a data set's tags; NaN where they are undefined."""

    people: int  # with a present joint
    images: int  # with two such people or more, which correlation and ranks are of
    dims: int  # D
    # (D, D) of the covariance of mean tags about their image's mean, pooled over images; NaN: a constant dimension
    correlation: list[list[float]]
    mean_correlation: float  # mean of its absolute values off the diagonal
    spectrum: list[float]  # the covariance's eigenvalues over their sum, largest first; empty where nothing varies
    participation: float  # (Σλ)²/Σλ², 1 to D
    entropy_rank: float  # exp(-Σ p·ln p) of p = λ/Σλ, 1 to D
    hoyer: float  # mean over people of (√D − Σ|m|/‖m‖)/(√D − 1), 1: a single dimension is used
    near_zero: float  # share of entries below a tenth of their tag's largest
    magnitudes: list[float]  # (D,) mean |m_d|
    scale: ScaleFit | None  # None without people


def summarize_tags(images: Sequence[PersonTags], dims: int) -> TagSummary:
    """Summarize a data set: an entry per image, with or without people, of D-dimensional tags."""
    crowds = [image.means for image in images if len(image.means) >= 2]
    covariance = within_image_covariance(crowds, dims)
    spread = np.sqrt(np.diag(covariance))
    spread = np.where(spread > 0, spread, math.nan)
    correlation = np.clip(covariance / np.outer(spread, spread), -1.0, 1.0)
    off_diagonal = np.abs(correlation[~np.eye(dims, dtype=bool)])
    spectrum = np.zeros(0)
    if np.trace(covariance) > 0:
        spectrum = np.maximum(np.linalg.eigvalsh(covariance)[::-1], 0.0)
        spectrum = spectrum / spectrum.sum()
    positive = spectrum[spectrum > 0]
    means = np.concatenate([np.zeros((0, dims)), *(image.means for image in images)])
    scales = np.concatenate([np.zeros(0), *(image.true_scales for image in images)])
    magnitudes = np.abs(means)
    return TagSummary(
        people=len(means),
        images=len(crowds),
        dims=dims,
        correlation=correlation.tolist(),
        mean_correlation=_mean(off_diagonal[np.isfinite(off_diagonal)]),
        spectrum=spectrum.tolist(),
        participation=1 / float((spectrum**2).sum()) if len(spectrum) else math.nan,
        entropy_rank=float(np.exp(-(positive * np.log(positive)).sum())) if len(positive) else math.nan,
        hoyer=_mean(hoyer_sparsity(means)),
        near_zero=_mean(magnitudes < NEAR_ZERO * magnitudes.max(1, keepdims=True, initial=0.0)),
        magnitudes=magnitudes.mean(0).tolist() if len(means) else [math.nan] * dims,
        scale=_scale_fit(scales, encoded_scales(means)) if means.size else None,
    )


def _mean(values: NDArray) -> float:
    return float(values.mean()) if values.size else math.nan


def within_image_covariance(crowds: Sequence[Array], dims: int) -> Array:
    """Return (D, D): Σ (m − m̄)(m − m̄)ᵀ over people, m̄ their image's mean, over Σ (people − 1)."""
    scatter, freedom = np.zeros((dims, dims)), 0
    for means in crowds:
        centered = means - means.mean(0)
        scatter += centered.T @ centered
        freedom += len(means) - 1
    return scatter / freedom if freedom else np.full((dims, dims), math.nan)


def hoyer_sparsity(means: Array) -> Array:
    """Return Hoyer's sparsity, in [0, 1], of those tags (N, D) that are not all zero; none where D is 1 or 0."""
    root, norms = math.sqrt(means.shape[1]), np.linalg.norm(means, axis=1)
    if means.shape[1] <= 1:
        return np.zeros(0)
    return np.asarray((root - np.abs(means[norms > 0]).sum(1) / norms[norms > 0]) / (root - 1))


def encoded_scales(means: Array) -> Array:
    """Return the person scales (N,) that mean tags (N, D) encode, in units of the input's side."""
    magnitudes, centers = np.abs(means), (np.arange(means.shape[1]) + 0.5) / means.shape[1]
    return np.asarray(magnitudes @ centers / np.maximum(magnitudes.sum(1), 1e-12))


def _scale_fit(true: Array, encoded: Array) -> ScaleFit:
    order = np.argsort(true, kind="stable")
    bins = [part for part in np.array_split(order, _SCALE_BINS) if len(part)]
    lower, median, upper = np.array([np.percentile(encoded[part], (25, 50, 75)) for part in bins]).T.tolist()
    varied = len(true) > 1 and true.std() > 0 and encoded.std() > 1e-12
    correlation = float(np.corrcoef(true, encoded)[0, 1]) if varied else math.nan
    people = [(float(true[i]), float(encoded[i])) for i in order[:: -(-len(order) // _SHOWN_PEOPLE)]]
    centers = [float(true[part].mean()) for part in bins]
    return ScaleFit(correlation, float(np.abs(true - encoded).mean()), centers, lower, median, upper, people)
