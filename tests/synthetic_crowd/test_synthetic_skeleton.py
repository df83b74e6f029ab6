import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthetic_crowd.body import PART, build_mesh, ring_table
from synthetic_crowd.poses import ACTIVITIES, draw_angles
from synthetic_crowd.skeleton import (
    ANGLE_LIMITS,
    FRAME,
    FRAMES,
    JOINT_NAMES,
    POINT,
    Pose,
    forward_kinematics,
    sample_bodies,
)

seeds = st.integers(0, 2**32 - 1)


def posed(seed=0, count=1, **flexions):
    bodies = sample_bodies(np.random.default_rng(seed), count)
    angles = np.zeros((count, len(FRAMES), 3), np.float32)
    for name, values in flexions.items():
        angles[:, FRAME[name]] = values
    return bodies, forward_kinematics(bodies, Pose(angles))


def place(people, name):
    return people.points[0, POINT[name]]


def test_joint_order_is_crowdpose():
    assert JOINT_NAMES[:4] == ("left_shoulder", "right_shoulder", "left_elbow", "right_elbow")
    assert JOINT_NAMES[10:] == ("left_ankle", "right_ankle", "head", "neck")


@given(seed=seeds, activity=st.sampled_from(sorted(ACTIVITIES)))
@settings(max_examples=60, deadline=None)
def test_every_activity_stays_inside_the_joint_limits(seed, activity):
    angles = draw_angles(np.random.default_rng(seed), activity)
    assert (angles >= ANGLE_LIMITS[..., 0]).all()
    assert (angles <= ANGLE_LIMITS[..., 1]).all()


@given(seed=seeds)
@settings(max_examples=40, deadline=None)
def test_bone_lengths_do_not_depend_on_the_pose(seed):
    rng = np.random.default_rng(seed)
    bodies = sample_bodies(rng, 3)
    angles = rng.uniform(-400, 400, (3, len(FRAMES), 3)).astype(np.float32)
    points = forward_kinematics(bodies, Pose(angles)).points

    def length(first, second):
        return np.linalg.norm(points[:, POINT[first]] - points[:, POINT[second]], axis=1)

    for side in ("left", "right"):
        np.testing.assert_allclose(length(f"{side}_shoulder", f"{side}_elbow"), bodies.arm * 0.54, rtol=1e-4)
        np.testing.assert_allclose(length(f"{side}_elbow", f"{side}_wrist"), bodies.arm * 0.46, rtol=1e-4)
        np.testing.assert_allclose(length(f"{side}_hip", f"{side}_knee"), bodies.leg * 0.5, rtol=1e-4)
        np.testing.assert_allclose(length(f"{side}_knee", f"{side}_ankle"), bodies.leg * 0.5, rtol=1e-4)
    np.testing.assert_allclose(length("left_shoulder", "right_shoulder"), 2 * bodies.shoulders, rtol=1e-4)


@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_elbows_and_knees_never_bend_backwards(seed):
    rng = np.random.default_rng(seed)
    angles = rng.uniform(-400, 400, (2, len(FRAMES), 3)).astype(np.float32)
    people = forward_kinematics(sample_bodies(rng, 2), Pose(angles))
    for upper, lower, sign in (("thigh", "shin", -1), ("arm", "forearm", 1)):
        for side in ("left", "right"):
            ahead = people.frames[:, FRAME[f"{side}_{upper}"], :, 2]
            bone = -people.frames[:, FRAME[f"{side}_{lower}"], :, 1]
            if upper == "thigh":  # a knee only hinges, so the shin never points to the front of the thigh
                assert (sign * (ahead * bone).sum(1) >= -1e-4).all()
            cosine = (-people.frames[:, FRAME[f"{side}_{upper}"], :, 1] * bone).sum(1)
            assert (cosine >= np.cos(np.deg2rad(148)) - 1e-4).all()


def test_left_is_the_persons_own_left_and_yaw_turns_it():
    _, facing = posed()
    assert place(facing, "left_shoulder")[0] > place(facing, "right_shoulder")[0]
    _, away = posed(pelvis=(0, 0, 180))
    assert place(away, "left_shoulder")[0] < place(away, "right_shoulder")[0]


@pytest.mark.parametrize("side", ["left", "right"])
def test_anatomical_signs(side):
    outwards = 1 if side == "left" else -1
    _, rest = posed()
    _, raised = posed(**{f"{side}_arm": (90, 0, 0)})
    assert place(raised, f"{side}_wrist")[2] > place(rest, f"{side}_wrist")[2] + 0.2
    _, spread = posed(**{f"{side}_arm": (0, 90, 0)})
    assert (place(spread, f"{side}_wrist")[0] - place(rest, f"{side}_wrist")[0]) * outwards > 0.2
    _, bent = posed(**{f"{side}_shin": (90, 0, 0)})
    assert place(bent, f"{side}_ankle")[2] < place(rest, f"{side}_ankle")[2] - 0.15
    _, across = posed(**{f"{side}_arm": (0, 0, -60), f"{side}_forearm": (90, 0, 0)})
    assert (place(across, f"{side}_wrist")[0] - place(across, f"{side}_elbow")[0]) * outwards < -0.1


def test_lying_on_the_back_faces_the_sky():
    _, lying = posed(pelvis=(-90, 0, 30))
    assert lying.frames[0, FRAME["head"], 1, 2] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("part", sorted(PART))
def test_surfaces_face_outwards(part):
    bodies, people = posed(seed=3)
    mesh = build_mesh(bodies, people, 8)
    rings = np.flatnonzero(ring_table().part == PART[part])[1:-1]
    outwards = mesh.vertices[0, rings] - mesh.vertices[0, rings].mean(1, keepdims=True)
    facing = (outwards * mesh.normals[0, rings]).sum(-1)
    assert (facing > 0).mean() > 0.9
