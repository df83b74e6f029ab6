"""Part affinity fields (Cao et al., CVPR 2017) as training targets (docs/method.md 9.1).

The field of a limb, an edge of the schema's skeleton, is the unit vector from its first to its second joint, in all
cells on it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Limbs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class PafTargets:
    """How fields are drawn.

    Attributes:
        limbs: L pairs of joints.
        kind: a key of `KINDS`.
        width: cells: half a limb's width; of ``"soft"`` the σ² of exp(−d⁴ / 2σ²) in squared cells.
    """

    limbs: Limbs
    kind: str = "mean"
    width: float = 1.0


@dataclass(frozen=True)
class _Segments:
    """One person's limbs in each of B images against all cells.

    Attributes:
        dx, dy: (B, L, 1, w), (B, L, h, 1) from the first joint to the cell's point.
        unit, length: (B, L, 2), (B, L) of the limb.
        present: (B, L) bool.
    """

    dx: Tensor
    dy: Tensor
    unit: Tensor
    length: Tensor
    present: Tensor

    def along(self) -> Tensor:
        """Return (B, L, h, w): how far along the limb's line a cell is."""
        ux, uy = self.unit[..., None, None].unbind(2)
        return ux * self.dx + uy * self.dy

    def across(self) -> Tensor:
        """Return (B, L, h, w): how far from the limb's line a cell is."""
        ux, uy = self.unit[..., None, None].unbind(2)
        return (ux * self.dy - uy * self.dx).abs()


def _on_segment(limbs: _Segments, width: float) -> Tensor:
    along = limbs.along()
    on = (along >= 0) & (along <= limbs.length[..., None, None]) & (limbs.across() <= width)
    return (on & limbs.present[..., None, None]).float()


def _in_box(limbs: _Segments, width: float) -> Tensor:
    # the released program's: near the line, inside the joints' box with a cell around it
    spans = (limbs.unit * limbs.length[..., None])[..., None, None].unbind(2)
    sides = zip((limbs.dx, limbs.dy), spans, strict=True)
    inside = [(d >= span.clamp_max(0) - 1) & (d <= span.clamp_min(0) + 1) for d, span in sides]
    on = inside[0] & inside[1] & (limbs.across() <= width)
    return (on & limbs.present[..., None, None]).float()


def _soft(limbs: _Segments, width: float) -> Tensor:
    along = limbs.along()
    beyond = along - along.clamp_min(0).minimum(limbs.length[..., None, None])
    squared = beyond**2 + limbs.across() ** 2  # of the distance from the segment
    return torch.exp(-(squared**2) / (2 * width)) * limbs.present[..., None, None]


@dataclass(frozen=True)
class _Kind:
    """A person's share (B, L, h, w) of each cell, how people's fields meet, and where in a cell its point is."""

    share: Callable[[_Segments, float], Tensor]
    meet: str
    point: float


KINDS = {
    "mean": _Kind(_on_segment, "mean", 0.5),  # the paper's
    "released": _Kind(_in_box, "last", 0.0),  # the released training program's: later people overwrite
    "soft": _Kind(_soft, "sum", 0.5),  # SLEAP's
}


def draw_pafs(joints: Tensor, visible: Tensor, size: tuple[int, int], options: PafTargets) -> Tensor:
    """Draw the fields of a batch.

    Args:
        joints: (B, M, K, 3): x, y in cells of the map, label.
        visible: (B, M, K) bool: labelled and inside the map; a limb needs both joints.
        size: (h, w) of the map.
        options: limbs, kind and width.

    Returns:
        (B, L, 2, h, w) float32.
    """
    kind, points = KINDS[options.kind], joints[..., :2].float()
    # by single joints: lists as indices would be copied to the device, which waits for the network
    ends = [torch.stack([points[:, :, limb[end]] for limb in options.limbs], 2) for end in (0, 1)]  # (B, M, L, 2)
    both = torch.stack([visible[:, :, a] & visible[:, :, b] for a, b in options.limbs], 2)
    span = ends[1] - ends[0]
    length = span.norm(dim=-1)
    unit, present = span / length.clamp_min(1e-6)[..., None], both & (length > 0)
    rows, columns = (torch.arange(n, device=joints.device) + kind.point for n in size)
    shape = (len(joints), len(options.limbs), *size)
    fields, counts = joints.new_zeros((*shape[:2], 2, *size), dtype=torch.float32), joints.new_zeros(shape)
    for person in range(joints.shape[1]):
        start = ends[0][:, person]  # (B, L, 2)
        dx, dy = columns - start[..., :1], rows - start[..., 1:]
        limbs = _Segments(dx[:, :, None], dy[..., None], unit[:, person], length[:, person], present[:, person])
        share = kind.share(limbs, options.width)
        vectors = share[:, :, None] * limbs.unit[..., None, None]
        if kind.meet == "last":
            fields = torch.where(share[:, :, None] > 0, vectors, fields)
        else:
            fields += vectors
            counts += share
    # sums of fading fields stay sums
    return fields / counts.clamp_min(1)[:, :, None] if kind.meet == "mean" else fields


def flipped_limbs(limbs: Limbs, flip_index: tuple[int, ...]) -> list[tuple[int, int] | None]:
    """Return for each limb its partner in a flipped image and whether that goes the same way, 1, or not, −1.

    None: the skeleton has no such limb.
    """
    places = {limb: (number, 1) for number, limb in enumerate(limbs)}
    places |= {(b, a): (number, -1) for number, (a, b) in enumerate(limbs) if (b, a) not in places}
    return [places.get((flip_index[a], flip_index[b])) for a, b in limbs]
