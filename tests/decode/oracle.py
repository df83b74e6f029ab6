"""METHOD.md §5, steps 3 to 7, slowly: whole maps enlarged by torch, Python loops, the munkres package.

Loaded by the fixture ``oracle``: test folders are no packages.
"""

import munkres
import numpy as np
import torch
from torch.nn import functional as F


def enlarge(maps, height, width):
    """Enlarge (..., h, w) float32 to (..., height, width)."""
    planes = torch.from_numpy(np.ascontiguousarray(maps)).flatten(0, -3)[None]
    large = F.interpolate(planes, size=(height, width), mode="bilinear", align_corners=False)
    return large.reshape(*maps.shape[:-2], height, width).numpy()


def enlarge_tags(tags, height, width):
    """Enlarge (K, h, w, T) to (K, height, width, T)."""
    return enlarge(tags.transpose(0, 3, 1, 2), height, width).transpose(0, 2, 3, 1)


def peaks(heatmap, tags, kernel, limit, threshold):
    """Return [(x, y, score, tag)] of (H, W) and (H, W, T), best first."""
    whole = torch.from_numpy(heatmap)
    largest = F.max_pool2d(whole[None], kernel, 1, kernel // 2)[0]
    scores, places = (whole * (whole == largest)).flatten().topk(min(limit, whole.numel()))
    found = []
    for score, place in zip(scores.numpy(), places.tolist(), strict=True):
        y, x = divmod(place, heatmap.shape[1])
        if score > np.float32(threshold):
            found.append((x, y, score, tags[y, x]))
    return found


class Person:
    """Joints by number and their tags, in the order in which they joined."""

    def __init__(self):
        self.joints, self.tags = {}, []

    def add(self, joint, candidate):
        x, y, score, tag = candidate
        self.joints[joint] = (x, y, score)
        self.tags.append(tag)

    @property
    def mean(self):
        total = np.zeros_like(self.tags[0])
        for tag in self.tags:
            total = total + tag
        return total / np.float32(len(self.tags))


def distances_and_costs(candidates, people, threshold, cost="near"):
    """Return (C, P) distances in thresholds and their rounded costs, columns padded.

    ``"near"``: the released program of the method; ``"steps"``: HigherHRNet's.
    """
    dtype, padding = (np.float32, 1e5) if cost == "near" else (np.float64, 1e10)
    distances = np.zeros((len(candidates), len(people)), dtype)
    costs = np.full((len(candidates), max(len(candidates), len(people))), padding, dtype)
    for j, mean in enumerate(person.mean for person in people):
        for i, (_, _, score, tag) in enumerate(candidates):
            distances[i, j] = np.sqrt(((tag.astype(dtype) - mean) ** 2).sum()) / dtype(threshold)
            rounded = np.round(distances[i, j])
            if cost == "steps":
                costs[i, j] = 100 * rounded - dtype(score)
            elif rounded <= 1:
                costs[i, j] = rounded - score
    return distances, costs


def group(candidates, order, threshold=1.0, cost="near", max_joined=0):
    """Return the people, each a Person, in the order in which they were started."""
    people = []
    for joint in order:
        here = candidates[joint]
        if not here:
            continue
        joined = {}
        if people:
            open_to = people[: max_joined or None]
            distances, costs = distances_and_costs(here, open_to, threshold, cost)
            for row, column in munkres.Munkres().compute(costs.copy()):
                if column < len(open_to) and distances[row, column] < 1:
                    joined[row] = column
        known = list(people)
        for row, candidate in enumerate(here):
            if row in joined:
                known[joined[row]].add(joint, candidate)
            else:
                people.append(Person())
                people[-1].add(joint, candidate)
    return people


def refine(heatmap, tags, mean):
    """Return (x, y) of the first largest heatmap − round(distance) of (H, W) and (H, W, T)."""
    total = np.zeros_like(heatmap)
    for t in range(tags.shape[2]):
        total += (tags[..., t] - mean[t]) ** 2
    place = int(np.argmax(heatmap - np.round(np.sqrt(total))))
    y, x = divmod(place, heatmap.shape[1])
    return x, y


def shifted(heatmap, x, y):
    """Return x, y after the quarter shifts and the half pixel."""
    height, width = heatmap.shape
    right, left = heatmap[y, min(x + 1, width - 1)], heatmap[y, max(x - 1, 0)]
    below, above = heatmap[min(y + 1, height - 1), x], heatmap[max(y - 1, 0), x]
    return x + (0.25 if right > left else -0.25) + 0.5, y + (0.25 if below > above else -0.25) + 0.5


def decode(heatmaps, tags, base_size, to_photo, settings):
    """Return [((K, 3) keypoints, score)] of (K, h', w') heatmaps and (K, h, w, T) tags."""
    width, height = base_size
    large, large_tags = enlarge(heatmaps, height, width), enlarge_tags(tags, height, width)
    limits = settings.peaks.kernel, settings.peaks.limit, settings.peaks.threshold
    candidates = [peaks(h, t, *limits) for h, t in zip(large, large_tags, strict=True)]
    result = []
    for person in group(candidates, settings.grouping_order, settings.tag_threshold, settings.cost):
        keypoints = np.zeros((len(heatmaps), 3))
        score = sum(float(joint[2]) for joint in person.joints.values()) / len(heatmaps)
        for k, heatmap in enumerate(large):
            if k in person.joints:
                x, y, joint_score = person.joints[k]
            elif settings.refine:
                x, y = refine(heatmap, large_tags[k], person.mean)
                joint_score = heatmap[y, x]
            else:
                continue
            keypoints[k, 2] = joint_score if joint_score > 0 or settings.absent_joints == "origin" else 0.0
            if joint_score > 0:
                keypoints[k, :2] = to_photo @ [*shifted(heatmap, x, y), 1.0]
        result.append((keypoints, score))
    return result
