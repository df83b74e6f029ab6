"""Fits per-pose proposals to pairs of annotated and detected boxes, and keeps them in files."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from coupled_embedding.data.people import usable_boxes
from coupled_embedding.data.person_crops import PersonBox
from coupled_embedding.data.proposals import (
    Array,
    Mixture,
    PoseProposals,
    Proposals,
    ReleasedProposals,
    box_shifts,
    match_boxes,
    normalized_pose,
)
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.utils.errors import DatasetError, short_repr
from coupled_embedding.utils.paths import resolve
from coupled_embedding.utils.plain_yaml import read_text

FORMAT = "coupled-embedding proposals"
FEWEST = 20  # pairs for each part of a mixture
_ROUNDS = 100  # of expectation and maximization
_SMALLEST_VARIANCE = 1e-6  # of a shift, in square shares of a side


def paired_shifts(
    records: Sequence[ImageRecord], boxes: Mapping[int, Sequence[PersonBox]], min_iou: float = 0.5
) -> tuple[Array, NDArray[np.float64]]:
    """Return what takes annotated boxes to the detected ones of the same people, and these people.

    Args:
        records: of whole images; people without a labelled joint are left out.
        boxes: detected, by image id.
        min_iou: intersection over union from which on boxes can be of the same person.

    Returns:
        Shifts (N, 4) and poses (N, K, 3).
    """
    shifts, poses = [np.zeros((0, 4))], []
    for record in records:
        true = usable_boxes(record.boxes, record.keypoints)
        usable = np.flatnonzero((record.keypoints[..., 2] > 0).any(1) & (true[:, 2:] > 0).all(1))
        found = np.array([one.box for one in boxes.get(record.image_id, ())], np.float64).reshape(-1, 4)
        for row, column in match_boxes(true[usable], found, min_iou):
            person = usable[row]
            shifts.append(box_shifts(true[[person]], found[[column]]))
            poses.append(record.keypoints[person].astype(np.float64))
    return np.concatenate(shifts), np.array(poses)


def fit_proposals(
    shifts: Array,
    poses: NDArray[np.floating],
    joints: Sequence[str],
    clusters: int = 30,
    parts: int = 2,
    seed: int = 0,
) -> PoseProposals:
    """Fit proposals: k-means of torso-normalized poses, then a mixture of normal distributions for each cluster.

    In k-means a joint without a label stands where it does on average. A cluster of fewer than `FEWEST` pairs has the
    mixture of all pairs, one of fewer than that for each part has fewer parts.

    Args:
        shifts: (N, 4) of `box_shifts`.
        poses: (N, K, 3) of the annotated people: x, y in image pixels, label.
        joints: K names.
        clusters: of poses.
        parts: normal distributions of a mixture.
        seed: the same pairs and seed give the same proposals.

    Raises:
        DatasetError: there are fewer than `FEWEST` pairs, fewer poses with a torso than clusters, or no joint is a
            shoulder or a hip.
    """
    if not all(any(name in joint for joint in joints) for name in ("shoulder", "hip")):
        raise DatasetError("proposals by pose need joints named shoulder and hip; AUGMENT.PROPOSALS released does not")
    if len(shifts) < FEWEST:
        raise DatasetError(f"{len(shifts)} pairs of an annotated and a detected box; proposals need {FEWEST} or more")
    rng = np.random.default_rng(seed)
    normalized = [normalized_pose(pose, joints) for pose in poses]
    with_torso = [row for row, pose in enumerate(normalized) if pose is not None]
    if len(with_torso) < clusters:
        raise DatasetError(f"{len(with_torso)} paired people have a labelled torso; {clusters} clusters need more")
    known = np.array([pose for pose in normalized if pose is not None])  # (M, K, 2)
    found = ~np.isnan(known)
    means = np.where(found, known, 0).sum(0) / np.maximum(found.sum(0), 1)
    filled = np.where(found, known, means).reshape(len(known), -1)
    centers, _ = kmeans2(filled, clusters, minit="++", missing="warn", seed=rng)
    fitted = PoseProposals(tuple(joints), centers.reshape(clusters, -1, 2), (), fit_mixture(shifts, parts, rng))
    # by the rule that draws, not by k-means: it looks at labelled joints alone
    chosen = np.array([fitted.cluster(poses[row]) for row in with_torso])
    of_torso = shifts[with_torso]
    mixtures = [
        fit_mixture(of_torso[chosen == number], parts, rng) if (chosen == number).sum() >= FEWEST else fitted.pooled
        for number in range(clusters)
    ]
    return PoseProposals(fitted.joints, fitted.centers, tuple(mixtures), fitted.pooled)


def fit_mixture(shifts: Array, parts: int, rng: np.random.Generator) -> Mixture:
    """Fit a mixture of normal distributions to shifts (N, 4) by expectation and maximization, from k-means."""
    parts = max(1, min(parts, len(shifts) // FEWEST))
    _, chosen = kmeans2(shifts, parts, minit="++", seed=rng)
    shares = np.eye(parts)[chosen]  # (N, G)
    for _ in range(_ROUNDS if parts > 1 else 1):
        counts = shares.sum(0) + 1e-9
        means = shares.T @ shifts / counts[:, None]
        apart = shifts[:, None] - means  # (N, G, 4)
        covariances = np.einsum("ng,ngi,ngj->gij", shares, apart, apart) / counts[:, None, None]
        covariances += _SMALLEST_VARIANCE * np.eye(4)
        mixture = Mixture(counts / counts.sum(), means, covariances)
        densities = [multivariate_normal.logpdf(shifts, m, c) for m, c in zip(means, covariances, strict=True)]
        logs = np.log(mixture.weights) + np.stack(densities, 1).reshape(-1, parts)
        shares = np.exp(logs - logsumexp(logs, axis=1, keepdims=True))
    return mixture


def proposals_text(proposals: PoseProposals) -> str:
    """Return the content of a file that `load_proposals` reads."""
    parts = [_mixture_dict(mixture) for mixture in proposals.mixtures]
    content = {"format": FORMAT, "joints": proposals.joints, "centers": proposals.centers.round(5).tolist()}
    return json.dumps(content | {"pooled": _mixture_dict(proposals.pooled), "mixtures": parts}) + "\n"


def _mixture_dict(mixture: Mixture) -> dict[str, Any]:
    values = {name: getattr(mixture, name).round(8).tolist() for name in ("means", "covariances")}
    return {"weights": mixture.weights.tolist(), **values}


def load_proposals(choice: str, joints: Sequence[str]) -> Proposals:
    """Return the proposals of ``"released"``, or of a file.

    Raises:
        DatasetError: the file cannot be read, is none of proposals, or is of other joints.
    """
    if choice == "released":
        return ReleasedProposals()
    try:
        content = json.loads(read_text(resolve(choice)))
    except FileNotFoundError as error:
        raise DatasetError(f"{choice}: no such file of proposals; AUGMENT.PROPOSALS is a file or 'released'") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{choice}: cannot read these proposals: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DatasetError(f"{choice}: not a file of tools/fit_proposals.py")
    if content.get("joints") != list(joints):
        raise DatasetError(
            f"{choice}: joints: these proposals are of {short_repr(content.get('joints'))}, the data set has "
            f"{', '.join(joints)}"
        )
    mixtures, pooled = content.get("mixtures"), _mixture(content.get("pooled"), f"{choice}: pooled")
    if not isinstance(mixtures, list) or not mixtures:
        raise DatasetError(f"{choice}: mixtures: expected a list, got {short_repr(mixtures)}")
    centers = _array(content.get("centers"), (len(mixtures), len(joints), 2), f"{choice}: centers")
    read = tuple(_mixture(mixture, f"{choice}: mixtures: {number}") for number, mixture in enumerate(mixtures))
    return PoseProposals(tuple(joints), centers, read, pooled)


def _mixture(content: Any, where: str) -> Mixture:
    if not isinstance(content, dict) or not isinstance(content.get("weights"), list) or not content["weights"]:
        raise DatasetError(f"{where}: expected weights, means and covariances, got {short_repr(content)}")
    count = len(content["weights"])
    shapes = {"weights": (count,), "means": (count, 4), "covariances": (count, 4, 4)}
    weights, means, covariances = (_array(content.get(n), shape, f"{where}: {n}") for n, shape in shapes.items())
    if (weights < 0).any() or abs(weights.sum() - 1) > 1e-6:
        raise DatasetError(f"{where}: weights: expected shares that sum to 1, got {short_repr(weights.tolist())}")
    try:
        np.linalg.cholesky(covariances)
    except np.linalg.LinAlgError as error:
        raise DatasetError(f"{where}: covariances: expected positive definite matrices") from error
    return Mixture(weights / weights.sum(), means, covariances)


def _array(content: Any, shape: tuple[int, ...], where: str) -> Array:
    try:
        values = np.array(content, np.float64)
    except (TypeError, ValueError):  # texts, or lists of different lengths
        values = np.array(np.nan)
    if values.shape != shape or not np.isfinite(values).all():
        raise DatasetError(f"{where}: expected finite numbers of shape {shape}, got {short_repr(content)}")
    return values
