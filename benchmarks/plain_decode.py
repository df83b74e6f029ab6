"""The released program's decode, written plainly: every map at full size, one person at a time."""

from collections.abc import Sequence

import numpy as np
import torch
from munkres import Munkres
from torch import Tensor
from torch.nn import functional as F


def merged_at_full_size(
    heatmaps: Tensor, tags: Tensor, size: tuple[int, int], flip: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Enlarge heatmaps (2, K, h', w') and tags (2, K, h, w, D) of photo and mirror, then merge them."""
    heatmaps = F.interpolate(heatmaps, size=size, mode="bilinear", align_corners=False)
    dims = tags.shape[-1]
    flat = tags.permute(0, 1, 4, 2, 3).flatten(1, 2)
    flat = F.interpolate(flat, size=size, mode="bilinear", align_corners=False)
    tags = flat.unflatten(1, (-1, dims)).permute(0, 1, 3, 4, 2)
    index = list(flip)
    heatmap = (heatmaps[0] + heatmaps[1].flip(-1)[index]) / 2
    return heatmap, torch.cat((tags[0], tags[1].flip(-2)[index]), -1)


def candidates(heatmap: Tensor, tags: Tensor, kernel: int, limit: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (x, y, score) and tags of each joint's best local maxima."""
    largest = F.max_pool2d(heatmap[None], kernel, 1, kernel // 2)[0]
    suppressed = heatmap * (largest == heatmap)
    scores, places = suppressed.flatten(1).topk(limit)
    y, x = places // heatmap.shape[2], places % heatmap.shape[2]
    found = []
    for joint in range(len(heatmap)):
        peaks = torch.stack((x[joint].float(), y[joint].float(), scores[joint]), 1).numpy()
        found.append((peaks, tags[joint, y[joint], x[joint]].numpy()))
    return found


def grouped(peaks: list[tuple[np.ndarray, np.ndarray]], order: Sequence[int], threshold: float) -> list[dict]:
    """Group the joints into people: dicts with joints (K, 3) and a list of tags."""
    people: list[dict] = []
    for joint in order:
        found, tags = peaks[joint]
        keep = found[:, 2] > threshold
        found, tags = found[keep], tags[keep]
        if not len(found):
            continue
        partner = [-1] * len(found)
        if people:
            means = np.array([np.mean(p["tags"], 0) for p in people])
            distances = np.linalg.norm(tags[:, None] - means[None], axis=2)
            rounded = np.round(distances)
            cost = np.where(rounded <= 1, rounded - found[:, 2:], np.float32(1e5)).astype(np.float32)
            rows, columns = cost.shape
            if rows > columns:
                cost = np.concatenate([cost, np.full((rows, rows - columns), 1e5, np.float32)], 1)
            for row, column in Munkres().compute(cost):
                if column < columns and distances[row, column] < 1:
                    partner[row] = column
        for row, person in enumerate(partner):
            if person < 0:
                people.append({"joints": np.zeros((len(peaks), 3)), "tags": []})
            chosen = people[person]
            chosen["joints"][joint] = found[row]
            chosen["tags"].append(tags[row])
    return people


def refined(people: list[dict], heatmap: Tensor, tags: Tensor) -> np.ndarray:
    """Adjust joints by a quarter pixel and look up absent ones over the whole map; (P, K, 3)."""
    result = []
    for person in people:
        joints = person["joints"].copy()
        mean = torch.from_numpy(np.mean(person["tags"], 0))
        for joint in range(len(joints)):
            plane = heatmap[joint]
            if joints[joint, 2] == 0:
                distance = ((tags[joint] - mean) ** 2).sum(-1).sqrt()
                place = int((plane - distance.round()).argmax())
                y, x = divmod(place, plane.shape[1])
                joints[joint] = (x, y, float(plane[y, x]))
            x, y = int(joints[joint, 0]), int(joints[joint, 1])
            right, left = plane[y, min(x + 1, plane.shape[1] - 1)], plane[y, max(x - 1, 0)]
            below, above = plane[min(y + 1, plane.shape[0] - 1), x], plane[max(y - 1, 0), x]
            joints[joint, 0] += (0.25 if right > left else -0.25) + 0.5
            joints[joint, 1] += (0.25 if below > above else -0.25) + 0.5
        result.append(joints)
    return np.array(result).reshape(len(people), -1, 3)
