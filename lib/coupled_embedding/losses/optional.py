"""Terms of the embedding loss beyond the paper, each off unless its option has a weight (docs/method.md 8.3)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

VARIANCE_GOAL = 1.0  # deviation of a dimension over an image's people, in the units of the tag threshold
VARIANCE_EPSILON = 1e-4  # under the root, as in VICReg
FAR = -1e4  # logit of an absent person; -inf would give NaN in images without people
CENTER_EPSILON = 1e-6  # (1/1000 of a person's size)²: nearer, the distance is a parabola


@dataclass(frozen=True)
class TaggedPeople:
    """An image batch's people with the tags that a network gave them.

    Attributes:
        joint_tags: (B, M, K, D) without places.
        means: (B, M, D) mean of them by person.
        places: (B, M, K, 2) x, y in cells: a joint's cell and the offset that the network added; None: no such tags.
        cells: (B, M, K, 2) of the joints.
        weight: (B, M, K) of the joints; 0: not labelled.
        people: (B, M) of the people: their largest; 0: absent.
        sizes: (B, M) of the people in cells.
    """

    joint_tags: Tensor
    means: Tensor
    places: Tensor | None
    cells: Tensor
    weight: Tensor
    people: Tensor
    sizes: Tensor


def divisor(weights: Tensor) -> Tensor:
    """Return sums of weights, and 1 instead of 0."""
    return torch.where(weights > 0, weights, 1)


def over_people(values: Tensor, people: Tensor) -> Tensor:
    """Mean of (B, M) values over an image's people, by their weights (B, M); 0 for an image without people."""
    return (values * people).sum(1) / divisor(people.sum(1))


def over_joints(values: Tensor, tagged: TaggedPeople) -> Tensor:
    """Mean of (B, M, K) values over each person's joints, over the people and over the images: a scalar."""
    by_person = (values * tagged.weight).sum(-1) / divisor(tagged.weight.sum(-1))
    return over_people(by_person, tagged.people).mean()


def center(tagged: TaggedPeople) -> Tensor:
    """Distance of each joint's place from the center of its person's joints, in units of the person's size.

    A regression of the center from every joint, as bottom-up methods with offsets have it (PersonLab, ECCV 2018):
    unlike the pull it has no trivial solution, and a large person's joints do not outweigh a small one's.
    """
    assert tagged.places is not None
    weight = tagged.weight[..., None]
    cells = tagged.cells.to(weight.dtype)
    centers = (cells * weight).sum(2, keepdim=True) / divisor(weight.sum(2, keepdim=True))
    errors = (tagged.places - centers) / tagged.sizes.clamp_min(1)[:, :, None, None]
    return over_joints((errors.square().sum(-1) + CENTER_EPSILON).sqrt() - CENTER_EPSILON**0.5, tagged)


def contrast(tagged: TaggedPeople) -> Tensor:
    """InfoNCE: how unlikely each joint finds its own person among the image's, by exp(−squared distance of tags).

    Pull and push look at one person or pair at a time; this one compares a joint's own person with the others, so that
    its gradient is largest for the joints that would be grouped wrongly, and none is left where all is well.
    """
    distances = (tagged.joint_tags[:, :, :, None] - tagged.means[:, None, None]).square().sum(-1)  # (B, M, K, M)
    logits = torch.where(tagged.people[:, None, None] > 0, -distances, FAR)
    own = logits.diagonal(dim1=1, dim2=3).transpose(1, 2)  # (B, M, K)
    return over_joints(logits.logsumexp(-1) - own, tagged)


def variance(tagged: TaggedPeople) -> Tensor:
    """How far each dimension's deviation over an image's people falls short of 1, mean over dimensions (VICReg)."""
    covariances = _covariances(tagged)
    deviations = (covariances.diagonal() + VARIANCE_EPSILON).sqrt()
    return F.relu(VARIANCE_GOAL - deviations).mean()


def correlation(tagged: TaggedPeople) -> Tensor:
    """Mean squared correlation of two dimensions of the people's tags: 0 if none says what another says already.

    Of correlations, not VICReg's covariances: those also vanish where all tags are equal.
    """
    covariances = _covariances(tagged)
    deviations = (covariances.diagonal() + VARIANCE_EPSILON).sqrt()
    correlations = covariances / (deviations[:, None] * deviations)
    dims = len(correlations)
    off_diagonal = correlations.square().sum() - correlations.diagonal().square().sum()
    return off_diagonal / max(dims * (dims - 1), 1)


def _covariances(tagged: TaggedPeople) -> Tensor:
    """Return the covariances (D, D) of mean tags over an image's people, pooled over the batch's images."""
    # two people of one image are always correlated: what counts is the directions of many images' people
    weight = tagged.people[..., None]
    count = weight.sum(1, keepdim=True)
    middle = (tagged.means * weight).sum(1, keepdim=True) / divisor(count)
    deviations = (tagged.means - middle) * weight.sqrt()
    freedom = (count - 1).clamp_min(0).sum().clamp_min(1)
    return torch.einsum("bmd,bme->de", deviations, deviations) / freedom


# name of the term, as in the options LOSS.*_WEIGHT -> the term
OPTIONAL_TERMS: dict[str, Callable[[TaggedPeople], Tensor]] = {
    "center": center,
    "contrast": contrast,
    "variance": variance,
    "correlation": correlation,
}
