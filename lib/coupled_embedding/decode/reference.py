"""Decode, plainly: from merged heatmaps and tags to poses. Read this first; `decode.decode` returns the same, faster.

Whole maps at the size of the network's input, Python loops, the package munkres. Tests and benchmarks compare
with it. Sections are those of docs/method.md.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from munkres import Munkres
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch.nn import functional as F

from coupled_embedding.data.geometry import Array, apply_affine
from coupled_embedding.data.outputs import Pose
from coupled_embedding.decode.aggregate import ImageMaps
from coupled_embedding.decode.options import DecodeOptions

Map = NDArray[np.float32]
Peak = tuple[int, int, np.float32, Map]  # x, y, score, tag (T,)


@dataclass
class Person:
    """Joints found so far: joint number -> (x, y, score), and their tags in the order in which they joined."""

    joints: dict[int, tuple[int, int, np.float32]] = field(default_factory=dict)
    tags: list[Map] = field(default_factory=list)

    def add(self, joint: int, peak: Peak) -> None:
        """Let a peak join."""
        x, y, score, tag = peak
        self.joints[joint] = (x, y, score)
        self.tags.append(tag)

    @property
    def mean_tag(self) -> Map:
        """Return the mean tag (T,) of the joints found so far."""
        total = np.zeros_like(self.tags[0])
        for tag in self.tags:
            total = total + tag
        return total / np.float32(len(self.tags))


def decode_reference(
    maps: ImageMaps, base_size: tuple[int, int], to_image: Array, options: DecodeOptions
) -> list[Pose]:
    """Return the poses of one image; arguments as of `decode.decode`."""
    width, height = base_size
    heatmaps = upsample(maps.heatmaps, height, width)  # (K, H, W)
    tags = upsampled_tags(maps, height, width)  # (K, H, W, T)
    peaks = [find_peaks(h, t, options) for h, t in zip(heatmaps, tags, strict=True)]
    return [locate(person, heatmaps, tags, to_image, options) for person in group_peaks(peaks, options)]


def upsample(maps: Map, height: int, width: int) -> Map:
    """Upsample (..., h, w) bilinearly to (..., height, width) (section 5.2)."""
    planes = torch.from_numpy(np.ascontiguousarray(maps)).flatten(0, -3)[None]
    large = F.interpolate(planes, size=(height, width), mode="bilinear", align_corners=False)
    return large.reshape(*maps.shape[:-2], height, width).numpy()


def upsampled_tags(maps: ImageMaps, height: int, width: int) -> Map:
    """Return the views' tags upsampled and concatenated, (K, height, width, T); a flipped view is flipped back."""
    views = []
    for view in maps.tags:
        tags = view.values.transpose(2, 3, 0, 1)  # (K, D, h, w)
        if view.flip_index is not None:
            tags = tags[list(view.flip_index), :, :, ::-1]
        views.append(upsample(np.ascontiguousarray(tags), height, width).transpose(0, 2, 3, 1))
    return np.concatenate(views, 3)


def find_peaks(heatmap: Map, tags: Map, options: DecodeOptions) -> list[Peak]:
    """Return a joint's best local maxima of (H, W), best first (section 5.3).

    Args:
        heatmap: (H, W).
        tags: (H, W, T).
        options: kernel, number, threshold; whether a plateau is one peak; how equal peaks are ordered.
    """
    rules = options.peaks
    whole = torch.from_numpy(heatmap)
    largest = F.max_pool2d(whole[None], rules.kernel, 1, rules.kernel // 2)[0]
    suppressed = whole * (whole == largest)
    if rules.dedup_plateaus:
        suppressed = _first_of_plateaus(suppressed, whole, rules.kernel // 2, float(np.float32(rules.threshold)))
    if rules.tie_order == "rows":
        places = np.argsort(-suppressed.flatten().numpy(), kind="stable")[: rules.max_candidates].tolist()
    else:
        places = suppressed.flatten().topk(min(rules.max_candidates, whole.numel())).indices.tolist()
    found = [(*divmod(place, heatmap.shape[1]), suppressed.flatten()[place].numpy()) for place in places]
    return [(x, y, score[()], tags[y, x]) for y, x, score in found if score > np.float32(rules.threshold)]


def _first_of_plateaus(suppressed: torch.Tensor, whole: torch.Tensor, radius: int, threshold: float) -> torch.Tensor:
    """Keep only maxima above the threshold, and of equal values within the window only the first, by rows."""
    kept = torch.zeros_like(suppressed)
    for y, x in (suppressed > threshold).nonzero().tolist():
        left, top = max(x - radius, 0), max(y - radius, 0)
        above, before = whole[top:y, left : x + radius + 1], whole[y, left:x]
        if not (above == whole[y, x]).any() and not (before == whole[y, x]).any():
            kept[y, x] = whole[y, x]
    return kept


def group_peaks(peaks: list[list[Peak]], options: DecodeOptions) -> list[Person]:
    """Assign peaks to people, joint by joint, at minimum total cost (section 5.4).

    Returns:
        People in the order in which they were started.
    """
    people: list[Person] = []
    for joint in options.grouping_order:
        joinable = people[: options.max_joined or None]
        partner = assign(peaks[joint], joinable, options) if peaks[joint] and joinable else {}
        for index, peak in enumerate(peaks[joint]):
            person = joinable[partner[index]] if index in partner else Person()
            person.add(joint, peak)
            if index not in partner:
                people.append(person)
    return people


def assign(peaks: list[Peak], people: list[Person], options: DecodeOptions) -> dict[int, int]:
    """Return peak -> person for the peaks that join; all others start a new person."""
    rule = options.cost_rule
    distances = np.zeros((len(peaks), len(people)), rule.dtype)
    costs = np.full((len(peaks), max(len(peaks), len(people))), rule.invalid_cost, rule.dtype)
    for j, mean in enumerate(person.mean_tag for person in people):
        for i, (_, _, score, tag) in enumerate(peaks):
            squared = ((tag.astype(rule.dtype) - mean) ** 2).sum()
            distances[i, j] = np.sqrt(squared) / rule.dtype(options.tag_threshold)
            distance = np.rint(distances[i, j]) if rule.rounded else distances[i, j]
            if distance <= rule.max_rounded_distance:
                costs[i, j] = rule.step * distance - score
    if options.assignment == "munkres":
        pairs = Munkres().compute(costs.copy())
    else:  # a thousandth of a rounding step orders equal costs and leaves the others alone
        near = costs.astype(np.float64)
        near[:, : len(people)] += 1e-3 * np.minimum(distances, 2.0)
        pairs = list(zip(*linear_sum_assignment(near), strict=True))
    return {i: j for i, j in pairs if j < len(people) and distances[i, j] < 1}


def locate(person: Person, heatmaps: Map, tags: Map, to_image: Array, options: DecodeOptions) -> Pose:
    """Return a person's pose in image pixels: missing joints refined, sub-pixel offsets, score (5.5 to 5.7)."""
    keypoints = np.zeros((len(heatmaps), 3))
    found = np.array([person.joints[k][:2] for k in person.joints], float)
    for k, heatmap in enumerate(heatmaps):
        if k in person.joints:
            x, y, score = person.joints[k]
        elif options.refine != "none":
            place = best_pixels(heatmap, tags[k], person.mean_tag[None], options.tag_threshold)[0]
            y, x = divmod(int(place), heatmap.shape[1])
            score = heatmap[y, x]
        else:
            keypoints[k, :2] = found.mean(0) + 0.5
            continue
        keypoints[k] = (*subpixel(heatmap, x, y), score)
    keypoints[:, :2] = apply_affine(to_image, keypoints[:, :2])
    if options.missing_joints != "guess":
        keypoints[keypoints[:, 2] <= 0, :2] = 0
    if options.missing_joints == "zero":
        keypoints[:, 2] = np.maximum(keypoints[:, 2], 0)
    scores = np.zeros(len(heatmaps), np.float32)
    for k, (_, _, score) in person.joints.items():
        scores[k] = score
    return Pose(keypoints, float(scores.mean()))


def best_pixels(heatmap: Map, tags: Map, mean_tags: Map, step: float = 1.0) -> NDArray[np.int64]:
    """Return the first pixel y·W + x that maximizes heatmap − round(‖tag − mean tag‖ / step) (section 5.6).

    Args:
        heatmap: (h, w), upsampled to the tags' size.
        tags: (H, W, T).
        mean_tags: (P, T) of people.
        step: tag distance that counts as 1.

    Returns:
        (P,) int64.
    """
    heatmap = upsample(heatmap[None], *tags.shape[:2])[0] if heatmap.shape != tags.shape[:2] else heatmap
    best = []
    for mean in mean_tags:
        squared = np.zeros_like(heatmap)
        for t in range(tags.shape[2]):
            squared += (tags[..., t] - mean[t]) ** 2
        best.append(int(np.argmax(heatmap - np.rint(np.sqrt(squared) / np.float32(step)))))
    return np.array(best, np.int64)


def subpixel(heatmap: Map, x: int, y: int) -> tuple[float, float]:
    """Return x, y after a quarter pixel towards the larger neighbor and half a pixel to the middle (section 5.5)."""
    height, width = heatmap.shape
    right, left = heatmap[y, min(x + 1, width - 1)], heatmap[y, max(x - 1, 0)]
    below, above = heatmap[min(y + 1, height - 1), x], heatmap[max(y - 1, 0), x]
    return x + (0.25 if right > left else -0.25) + 0.5, y + (0.25 if below > above else -0.25) + 0.5
