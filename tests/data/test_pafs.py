"""Targets of part affinity fields against a slow oracle, and their symmetry."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coupled_embedding.data.gaussians import joint_cells
from coupled_embedding.data.pafs import KINDS, PafTargets, draw_pafs, flipped_limbs
from coupled_embedding.data.schema import load_schema
from coupled_embedding.data.targets import build_targets

LIMBS = ((0, 1), (1, 2), (2, 0))
H, W = 7, 9


def slow_pafs(joints, visible, limbs, kind, width):
    """One image's fields (L, 2, h, w), cell by cell and person by person."""
    fields = np.zeros((len(limbs), 2, H, W))
    for number, (a, b) in enumerate(limbs):
        for y in range(H):
            for x in range(W):
                point = np.array([x, y]) if kind == "released" else np.array([x + 0.5, y + 0.5])
                vectors = []
                for person in range(len(joints)):
                    if not (visible[person, a] and visible[person, b]):
                        continue
                    start, end = joints[person, a, :2].astype(float), joints[person, b, :2].astype(float)
                    length = math.dist(start, end)
                    if length == 0:
                        continue
                    unit = (end - start) / length
                    along = unit @ (point - start)
                    across = abs(unit[0] * (point - start)[1] - unit[1] * (point - start)[0])
                    if kind == "soft":
                        nearest = start + unit * min(max(along, 0), length)
                        vectors.append(unit * math.exp(-(math.dist(point, nearest) ** 4) / (2 * width)))
                    elif kind == "mean" and 0 <= along <= length and across <= width:
                        vectors.append(unit)
                    elif kind == "released":
                        low, high = np.minimum(start, end) - 1, np.maximum(start, end) + 1
                        if (point >= low).all() and (point <= high).all() and across <= width:
                            vectors = [unit]  # the counter of the released program never counts
                if vectors:
                    fields[number, :, y, x] = np.mean(vectors, 0) if kind == "mean" else np.sum(vectors, 0)
    return fields


# odd fractions: no cell lies exactly on a border, where rounding decides
coordinates = st.integers(-2, 10).map(lambda n: n + 0.137 * (n % 7) + 0.0371)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(sorted(KINDS)), st.sampled_from([0.6, 1.0, 2.3]), st.integers(1, 3))
def test_fields_are_those_of_a_cell_by_cell_oracle(data, kind, width, people):
    joint = st.tuples(coordinates, coordinates, st.sampled_from([0, 1, 2]))
    joints = torch.tensor([[[data.draw(joint) for _ in range(3)] for _ in range(people)] for _ in range(2)])
    visible = joint_cells(joints, H, W)[1]
    found = draw_pafs(joints, visible, (H, W), PafTargets(LIMBS, kind, width))
    assert found.shape == (2, 3, 2, H, W)
    for image in range(2):
        expected = slow_pafs(joints[image].numpy(), visible[image].numpy(), LIMBS, kind, width)
        np.testing.assert_allclose(found[image], expected, atol=2e-5)


def test_people_on_one_cell_are_averaged_overwritten_or_summed():
    # one limb to the right, one downwards, through the middle of the map
    joints = torch.tensor([[[[1.0, 3.5, 2], [8.0, 3.5, 2]], [[4.5, 0.5, 2], [4.5, 6.5, 2]]]])
    visible = torch.ones(1, 2, 2, dtype=torch.bool)
    at_crossing = {
        kind: draw_pafs(joints, visible, (H, W), PafTargets(((0, 1),), kind, 0.7))[0, 0, :, 3, 4].tolist()
        for kind in ("mean", "soft")
    }
    assert at_crossing["mean"] == [0.5, 0.5]
    assert at_crossing["soft"] == [1.0, 1.0]
    later = draw_pafs(joints, visible, (H, W), PafTargets(((0, 1),), "released", 0.7))[0, 0, :, 4, 4]
    assert later.tolist() == [0.0, 1.0]


def test_a_limb_needs_both_joints_inside_and_apart():
    joints = torch.tensor([[[[2.0, 2, 2], [2.0, 2, 2]], [[3.0, 3, 2], [20.0, 3, 2]], [[3.0, 5, 0], [6.0, 5, 2]]]])
    visible = joint_cells(joints, H, W)[1]
    for kind in KINDS:
        assert not draw_pafs(joints, visible, (H, W), PafTargets(((0, 1),), kind)).any()


@pytest.mark.parametrize("name", ["coco", "crowdpose", "synthetic"])
def test_every_limb_of_the_skeletons_has_a_partner_in_a_flipped_image(name):
    schema = load_schema(f"datasets/{name}.yaml")
    partners = flipped_limbs(schema.skeleton, schema.flip_index)
    for (a, b), partner in zip(schema.skeleton, partners, strict=True):
        assert partner is not None
        limb = schema.skeleton[partner[0]]
        assert (schema.flip_index[a], schema.flip_index[b]) == (limb if partner[1] == 1 else limb[::-1])


def test_a_skeleton_may_lack_a_limb_of_the_flipped_image():
    assert flipped_limbs(((0, 2), (1, 2), (0, 1), (0, 3)), (1, 0, 2, 3)) == [(1, 1), (0, 1), (2, -1), None]


def test_targets_of_a_batch_have_fields_at_the_lowest_resolution_if_wanted():
    joints = torch.tensor([[[[1.0, 3.5, 2], [8.0, 3.5, 2], [0, 0, 0]]]])
    masks = [torch.ones(1, H, W), torch.ones(1, 2 * H, 2 * W)]
    both = [joints, joints * torch.tensor([2, 2, 1])]
    assert build_targets(both, masks, torch.ones(1, 1)).pafs is None
    pafs = build_targets(both, masks, torch.ones(1, 1), paf=PafTargets(LIMBS)).pafs
    assert pafs.shape == (1, 3, 2, H, W)
    assert pafs[0, 0, 0, 3, 1:8].tolist() == [1.0] * 7
    assert not pafs[0, 1:].any()
