"""Grouping by part affinity fields: candidates are joined limb by limb (docs/method.md 9.1).

Each limb connects candidates of its two joints, each at most once, by the field along the segment between them and,
where the rule weighs them, by their tags; connections then grow people, in the limbs' order.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from coupled_embedding.data.pafs import Limbs
from coupled_embedding.decode.fast.upsample import Map, bilerp, grid
from coupled_embedding.decode.grouping import Groups, tag_distances
from coupled_embedding.decode.options import PafRule
from coupled_embedding.decode.peaks import Candidates

MOST_SAMPLES = 25  # of a segment, where its length decides

# (first, second, score): numbers of two candidates, best connection first
Connection = tuple[int, int, float]


@dataclass(frozen=True)
class LimbOrder:
    """In which order limbs grow people.

    Attributes:
        limbs: numbers of the limbs: first those of a tree over the joints, breadth first, then the others.
        tree: how many of them are the tree's; the others start no person.
    """

    limbs: tuple[int, ...]
    tree: int


@cache
def limb_order(limbs: Limbs, grouping_order: Sequence[int]) -> LimbOrder:
    """Return the order of a skeleton's limbs, from the joint with most limbs outwards.

    Args:
        limbs: L pairs of joints.
        grouping_order: of several such joints, the first of these is the root, and of a skeleton in several parts each
            has a root of its own.
    """
    at: dict[int, list[int]] = defaultdict(list)
    for number, limb in enumerate(limbs):
        for joint in limb:
            at[joint].append(number)
    tree: list[int] = []
    reached: set[int] = set()
    for root in sorted(grouping_order, key=lambda joint: -len(at[joint])):  # stable
        queue = [] if root in reached else [root]
        reached.add(root)
        for joint in queue:
            for number in at[joint]:
                other = limbs[number][0] if limbs[number][1] == joint else limbs[number][1]
                if other not in reached:
                    reached.add(other)
                    queue.append(other)
                    tree.append(number)
    return LimbOrder((*tree, *(n for n in range(len(limbs)) if n not in tree)), len(tree))


def group_by_pafs(
    candidates: Sequence[Candidates],
    pafs: Map,
    size: tuple[int, int],
    limbs: Limbs,
    rule: PafRule,
    order: LimbOrder,
) -> Groups:
    """Group the K joints' candidates into people.

    Args:
        candidates: one entry per joint.
        pafs: (L, 2, h, w) float32, contiguous.
        size: (H, W) of the input, whose pixels candidates are at.
        limbs: L pairs of joints.
        rule: how a connection is scored, and which people remain.
        order: of the limbs.
    """
    counts = [len(c.scores) for c in candidates]
    joint_of = np.repeat(np.arange(len(counts)), counts)  # of each candidate, all in one row
    first = [0, *np.cumsum(counts).tolist()]  # number of each joint's first candidate
    people = _People(joint_of.tolist(), [score for c in candidates for score in c.scores.tolist()])
    for place, number in enumerate(order.limbs):
        a, b = limbs[number]
        for i, j, score in connect(candidates[a], candidates[b], pafs[number], size, rule):
            people.connect(first[a] + i, first[b] + j, score, starts=place < order.tree)
    return _groups(people.found(rule), candidates, joint_of)


def connect(start: Candidates, end: Candidates, field: Map, size: tuple[int, int], rule: PafRule) -> list[Connection]:
    """Return the connections of one limb, best first.

    Args:
        start, end: candidates of its joints, with tags where the rule weighs them.
        field: (2, h, w) float32, contiguous.
        size: (H, W) of the input.
        rule: as for `group_by_pafs`.
    """
    if not len(start.scores) or not len(end.scores):
        return []
    cells = grid(field.shape[1:], size)
    scores = _segment_scores(
        field,
        cells,
        start.pixels,
        end.pixels,
        rule.samples,
        np.float32(rule.sample_threshold),
        rule.share,
        rule.mean_of_passing,
    )
    lengths = np.hypot(*(np.subtract.outer(start.pixels[:, axis], end.pixels[:, axis]) for axis in (0, 1)))
    scores += rule.prior(lengths, size)
    if rule.tag_weight:
        scores += rule.tag_weight * np.maximum(1 - tag_distances(start.tags, end.tags) / rule.tag_threshold, -1)
    rows, columns = np.nonzero(scores > rule.line_score)  # NaN: too few samples passed
    if rule.matching == "hungarian":
        allowed = np.zeros(scores.shape)
        allowed[rows, columns] = scores[rows, columns] - rule.line_score
        matched = linear_sum_assignment(allowed, maximize=True)
        chosen = [(i, j) for i, j in zip(*matched, strict=True) if allowed[i, j] > 0]
        return sorted(((int(i), int(j), float(scores[i, j])) for i, j in chosen), key=lambda c: -c[2])
    connections, used_rows, used_columns = [], set(), set()
    values = scores[rows, columns]
    best_first = np.argsort(-values, kind="stable")
    for i, j, score in zip(*(column[best_first].tolist() for column in (rows, columns, values)), strict=True):
        if i not in used_rows and j not in used_columns:
            used_rows.add(i)
            used_columns.add(j)
            connections.append((i, j, score))
    return connections


class _People:
    """People that grow; a candidate belongs to one at most, and a person has one candidate a joint.

    Args:
        joint: of each candidate.
        scores: of each candidate.
    """

    def __init__(self, joint: list[int], scores: list[float]) -> None:
        self.joint, self.scores = joint, scores
        self.owner: dict[int, int] = {}  # of a candidate
        self.members: dict[int, dict[int, int]] = {}  # person -> joint -> candidate, in the order in which they began
        self.connections: dict[int, float] = {}  # person -> sum of the scores
        self.started = 0

    def connect(self, a: int, b: int, score: float, starts: bool) -> None:
        """Add a connection of two candidates, if it fits."""
        mine, other = self.owner.get(a), self.owner.get(b)
        if mine is None and other is None:
            if not starts:
                return
            mine = self.started
            self.started += 1
            self.members[mine], self.connections[mine] = {}, 0.0
            self._add(mine, a)
            self._add(mine, b)
        elif mine is None or other is None:
            mine, newcomer = (other, a) if mine is None else (mine, b)
            assert mine is not None
            if self.joint[newcomer] in self.members[mine]:
                return
            self._add(mine, newcomer)
        elif mine != other:
            if self.members[mine].keys() & self.members[other].keys():
                return
            mine, other = min(mine, other), max(mine, other)
            for candidate in self.members.pop(other).values():
                self._add(mine, candidate)
            self.connections[mine] += self.connections.pop(other)
        self.connections[mine] += score

    def _add(self, person: int, candidate: int) -> None:
        self.owner[candidate] = person
        self.members[person][self.joint[candidate]] = candidate

    def found(self, rule: PafRule) -> list[list[int]]:
        """Return the candidates of each person with joints and score enough, then the single candidates."""
        kept = []
        for person, members in self.members.items():
            total = sum(self.scores[candidate] for candidate in members.values()) + self.connections[person]
            if len(members) >= rule.min_joints and total >= rule.min_score * len(members):
                kept.append(list(members.values()))
        if rule.singles:
            kept += [[candidate] for candidate in range(len(self.scores)) if candidate not in self.owner]
        return kept


def _groups(people: list[list[int]], candidates: Sequence[Candidates], joint_of: NDArray[np.int64]) -> Groups:
    joints = np.zeros((len(people), len(candidates), 3), np.float32)
    found = np.zeros(joints.shape[:2], bool)
    tags = np.zeros((len(people), candidates[0].tags.shape[1]), np.float32)  # means, where the network has tags too
    sizes = np.array([len(members) for members in people], np.int64)
    owner = np.repeat(np.arange(len(people)), sizes)
    member = np.array([candidate for members in people for candidate in members], np.int64)
    joint = joint_of[member]
    joints[owner, joint, :2] = np.concatenate([c.pixels for c in candidates])[member]
    joints[owner, joint, 2] = np.concatenate([c.scores for c in candidates])[member]
    found[owner, joint] = True
    np.add.at(tags, owner, np.concatenate([c.tags for c in candidates])[member] / sizes[owner, None].astype(np.float32))
    return Groups(joints, found, tags)


@njit(cache=True, nogil=True)
def _segment_scores(field, cells, starts, ends, samples, threshold, share, mean_of_passing):
    """Return (n, m) mean fields along segments; NaN where too few samples exceed the threshold."""
    # plain arrays: each look into a tuple of arrays counts references, which takes longer than a sample; and unsigned
    # numbers, as signed ones are checked for counting from the end
    above, below, down = cells.rows.first, cells.rows.second, cells.rows.weight
    left, right, across = cells.columns.first, cells.columns.second, cells.columns.weight
    fx, fy = field[0], field[1]
    out = np.full((len(starts), len(ends)), np.nan)
    values = np.empty(max(samples, MOST_SAMPLES))
    for i in range(len(starts)):
        for j in range(len(ends)):
            x, y = float(starts[i, 0]), float(starts[i, 1])
            dx, dy = float(ends[j, 0] - starts[i, 0]), float(ends[j, 1] - starts[i, 1])
            length = np.sqrt(dx * dx + dy * dy)
            if length == 0:
                continue
            count = samples
            if not count:
                count = int(max(5, min(MOST_SAMPLES, np.floor(np.sqrt(5 * max(abs(dx), abs(dy))) + 0.5))))
            failing = 0
            # from the middle outwards: near a joint the field of its own limb is strong, whoever is at the other end
            for n in range(count):
                place = count // 2 + (-(n + 1) // 2 if n % 2 else n // 2)
                # rounded to the nearest pixel
                u = np.uintp(x + dx * place / (count - 1) + 0.5)
                v = np.uintp(y + dy * place / (count - 1) + 0.5)
                a, b, c, d = np.uintp(above[v]), np.uintp(below[v]), np.uintp(left[u]), np.uintp(right[u])
                along_x = bilerp(fx[a, c], fx[a, d], fx[b, c], fx[b, d], across[u], down[v]) * dx
                along_y = bilerp(fy[a, c], fy[a, d], fy[b, c], fy[b, d], across[u], down[v]) * dy
                values[place] = (along_x + along_y) / length
                failing += not values[place] > threshold
                if count - failing <= share * count:
                    break
            else:
                total = 0.0
                for n in range(count):
                    if not mean_of_passing or values[n] > threshold:
                        total += values[n]
                out[i, j] = total / (count - failing if mean_of_passing else count)
    return out
