"""Ground truth as perfect maps: decode must give the people back."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coupled_embedding.data.geometry import apply_affine, resize_geometry
from coupled_embedding.data.outputs import PoseOutput
from coupled_embedding.data.targets import build_targets
from coupled_embedding.decode.aggregate import MergedMaps, merge_flip, merge_resolutions
from coupled_embedding.decode.decode import decode
from coupled_embedding.decode.options import DecodeOptions

SIZE = 128  # input pixels
JOINTS = 5
FLIP_INDEX = (1, 0, 3, 2, 4)
APART = 24  # input pixels between the same joint of two people


def scattered_people(seed, people):
    """Return (P, K, 2) joints at the middles of stride-2 cells, like joints far apart."""
    random = np.random.default_rng(seed)
    slots = [(x, y) for x in range(12, SIZE - 12, APART) for y in range(12, SIZE - 12, APART)]
    chosen = np.array([[slots[i] for i in random.permutation(len(slots))[:people]] for _ in range(JOINTS)])
    jitter = 2 * random.integers(0, 2, chosen.shape)
    return (chosen + jitter + 1.0).transpose(1, 0, 2)


def perfect_maps(joints, visible, tag_dim=8):
    """Targets at strides 4 and 2 as heatmaps; at stride 4 each joint's map holds the nearest person's tag."""
    labelled = torch.from_numpy(np.concatenate((joints, visible[..., None]), -1).astype(np.float32))[None]
    scaled = [labelled / torch.tensor([stride, stride, 1.0]) for stride in (4, 2)]
    masks = [torch.ones(1, SIZE // stride, SIZE // stride) for stride in (4, 2)]
    targets = build_targets(scaled, masks, torch.ones(1, len(joints)))
    person_tags = 3.0 * torch.arange(len(joints))[:, None] * torch.eye(tag_dim)[0]
    y, x = torch.meshgrid(torch.arange(SIZE // 4), torch.arange(SIZE // 4), indexing="ij")
    cells = torch.stack((x, y), -1) * 4 + 2.0
    distances = (cells[:, :, None, None] - torch.from_numpy(joints).float()).norm(dim=-1)  # (h, w, P, K)
    tags = person_tags[distances.argmin(2)]  # (h, w, K, D)
    return PoseOutput(targets.heatmaps, tags.permute(2, 0, 1, 3)[None])


def merged(maps, flip):
    plain = MergedMaps(merge_resolutions(maps), maps.tags)
    if not flip:
        return plain
    index = list(FLIP_INDEX)
    flipped = MergedMaps(plain.heatmaps.flip(-1)[:, index], plain.tags.flip(3)[:, index])
    return merge_flip(plain, flipped, FLIP_INDEX)


def found_people(joints, visible, flip, refine, geometry, assignment="munkres"):
    maps = merged(perfect_maps(joints, visible), flip)
    options = DecodeOptions((4, 0, 1, 2, 3), refine=refine, assignment=assignment)
    return decode(maps.image(0), geometry.base_size, geometry.to_image(), options)


def assert_same_people(poses, joints, visible, geometry):
    assert len(poses) == len(joints)
    truth = apply_affine(geometry.to_image(), joints)
    pixel = geometry.side / geometry.base_size[0]  # image pixels an input pixel
    left = set(range(len(joints)))
    for pose in poses:
        seen = pose.keypoints[:, 2] > 0.3
        errors = {p: np.abs(pose.keypoints[seen, :2] - truth[p, seen]).max() for p in left}
        person = min(errors, key=errors.__getitem__)
        assert errors[person] < 1.0 * pixel
        assert seen.tolist() == visible[person].tolist()
        left.remove(person)
    assert not left


@given(st.integers(0, 2**31), st.integers(1, 12), st.booleans(), st.sampled_from(["munkres", "scipy"]))
@settings(max_examples=40, deadline=None)
def test_scattered_people_come_back_within_a_pixel(seed, people, flip, assignment):
    joints, visible = scattered_people(seed, people), np.ones((people, JOINTS), bool)
    geometry = resize_geometry((300, 300), SIZE)
    poses = found_people(joints, visible, flip, "fast", geometry, assignment)
    assert_same_people(poses, joints, visible, geometry)


@given(st.integers(0, 2**31), st.integers(1, 12))
@settings(max_examples=30, deadline=None)
def test_unlabelled_joints_stay_missing_without_refinement(seed, people):
    random = np.random.default_rng(seed)
    visible = random.random((people, JOINTS)) < 0.7
    visible[:, random.integers(JOINTS)] = True
    geometry = resize_geometry((200, 200), SIZE)
    joints = scattered_people(seed, people)
    poses = found_people(joints, visible, False, "none", geometry)
    assert_same_people(poses, joints, visible, geometry)
    for pose in poses:
        assert pose.score == pytest.approx(pose.keypoints[:, 2].mean(), abs=1e-6)


def test_no_people_give_no_detections():
    geometry = resize_geometry((200, 200), SIZE)
    joints, visible = scattered_people(0, 3), np.zeros((3, JOINTS), bool)
    assert found_people(joints, visible, True, "fast", geometry) == []
