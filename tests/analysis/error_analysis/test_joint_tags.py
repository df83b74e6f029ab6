"""Tags at true joints are those of the maps upsampled to the input."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from coupled_embedding.analysis.error_analysis.tags import joint_tags
from coupled_embedding.data.geometry import resize_geometry
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.decode.aggregate import ImageMaps
from coupled_embedding.decode.fast.views import TagView

FLIP = (0, 2, 1)


def record(keypoints: list[list[list[float]]], boxes: list[list[float]]) -> ImageRecord:
    people = np.array(keypoints, np.float32).reshape(-1, 3, 3)
    return ImageRecord(1, Path("image.jpg"), 200, 100, people, np.array(boxes, np.float32).reshape(-1, 4))


def upsampled(view: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return (H, W, K, D) of a view (h, w, K, D), upsampled as a whole."""
    rows, columns, joints, dims = view.shape
    flat = torch.from_numpy(view.reshape(rows, columns, -1)).permute(2, 0, 1)[None]
    whole = F.interpolate(flat, size=size, mode="bilinear", align_corners=False)[0]
    return whole.permute(1, 2, 0).reshape(*size, joints, dims).numpy()


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("dims", [1, 3])
def test_tags_are_those_of_whole_upsampled_maps(flipped: bool, dims: int) -> None:
    random = np.random.default_rng(dims)
    people = np.concatenate([random.uniform(0, [200, 100], (4, 3, 2)), random.integers(0, 3, (4, 3, 1))], 2)
    image = record(people.tolist(), [[0, 0, 10, 40]] * 4)
    geometry = resize_geometry((200, 100), 64)
    views = [TagView(random.normal(size=(16, 32, 3, dims)).astype(np.float32))]
    whole = [upsampled(views[0].values, (64, 128))]
    if flipped:
        views.append(TagView(random.normal(size=(16, 32, 3, dims)).astype(np.float32), FLIP))
        whole.append(upsampled(views[1].values, (64, 128))[:, ::-1][:, :, list(FLIP)])
    tags = joint_tags(image, ImageMaps(np.zeros((3, 16, 32), np.float32), tuple(views)), geometry, 64)
    assert tags.dims == dims
    assert tags.values.shape == (4, 3, dims * len(views))
    assert (tags.present == (people[..., 2] > 0)).all()
    for n, k in zip(*np.nonzero(tags.present)):
        # 200 × 100 image pixels in 128 × 64 of the input, borders equal
        x, y = int(people[n, k, 0] * 0.64), int(people[n, k, 1] * 0.64)
        expected = np.concatenate([view[y, x, k] for view in whole])
        np.testing.assert_allclose(tags.values[n, k], expected, atol=1e-5)
    assert (tags.values[~tags.present] == 0).all()
    # √(10 · 40) = 20 image pixels are 12.8 of the input, a fifth of S
    np.testing.assert_allclose(tags.true_scales, [0.2] * 4)


def test_joints_beside_the_image_and_people_without_joints_count_nothing() -> None:
    people = [[[-1, 5, 2], [5, 100, 2], [200, 5, 1]], [[0, 0, 0]] * 3, [[199.9, 99.9, 2], [0, 0, 1], [0, 0, 0]]]
    image = record(people, [[0, 0, 1, 1], [0, 0, -3, 1], [0, 0, 9, 9]])
    views = (TagView(np.ones((16, 32, 3, 2), np.float32)),)
    tags = joint_tags(image, ImageMaps(np.zeros((3, 16, 32), np.float32), views), resize_geometry((200, 100), 64), 64)
    assert tags.present.tolist() == [[False] * 3, [False] * 3, [True, True, False]]
    assert tags.means().tolist() == [[0, 0], [0, 0], [1, 1]]
    assert tags.true_scales[1] == 0


def test_an_image_without_people() -> None:
    maps = ImageMaps(np.zeros((3, 16, 32), np.float32), (TagView(np.ones((16, 32, 3, 2), np.float32)),))
    tags = joint_tags(record([], []), maps, resize_geometry((200, 100), 64), 64)
    assert tags.values.shape == (0, 3, 2)
    assert tags.means().shape == (0, 2)
