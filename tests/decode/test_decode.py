import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import decoded_case

from coupled_embedding.config import load_config
from coupled_embedding.data.geometry import fit_geometry
from coupled_embedding.data.schema import load_schema
from coupled_embedding.decode.aggregate import PhotoMaps
from coupled_embedding.decode.decode import DecodeSettings, build_decode_settings, decode
from coupled_embedding.decode.fast.views import TagLayer
from coupled_embedding.decode.peaks import PeakSettings
from coupled_embedding.utils.errors import ConfigError, NotFiniteError

IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


# ---- recordings


@pytest.mark.reference
def test_people_equal_the_recorded_ones_in_order(decode_case):
    npz, people = np.load(decode_case), decoded_case(decode_case)
    assert len(people) == len(npz["keypoints"])
    for pose, keypoints, score in zip(people, npz["keypoints"], npz["scores"], strict=True):
        np.testing.assert_allclose(pose.keypoints[:, :2], keypoints[:, :2], rtol=0, atol=1e-3)
        np.testing.assert_allclose(pose.keypoints[:, 2], keypoints[:, 2], rtol=0, atol=1e-5)
        assert pose.score == pytest.approx(float(score), abs=1e-5)


@pytest.mark.reference
def test_higherhrnets_people_equal_the_recorded_ones_in_order(baseline_decode_case):
    npz = np.load(baseline_decode_case)
    options = json.loads(str(npz["settings"]))
    heatmaps, tags = (npz[name][0].astype(np.float32) for name in ("heatmaps", "tagmaps"))
    dataset = {17: "coco", 14: "crowdpose"}[len(heatmaps)]
    cfg = load_config(f"config/{dataset}/ae_hrhrnet_w32_512.yaml")
    settings = build_decode_settings(cfg, load_schema(cfg.DATASET.SCHEMA))
    assert settings.grouping_order == tuple(options["joint_order"])
    limits = options["nms_kernel"], options["max_num_people"], options["detection_threshold"]
    assert (settings.peaks.kernel, settings.peaks.limit, settings.peaks.threshold) == limits
    assert (settings.tag_threshold, settings.max_joined) == (options["tag_threshold"], options["max_num_people"])
    # the recorded maps are enlarged already: a cell a pixel
    size = heatmaps.shape[2], heatmaps.shape[1]
    people = decode(photo_maps(heatmaps, tags), size, IDENTITY, settings)
    assert len(people) == len(npz["keypoints"])
    for pose, keypoints, score in zip(people, npz["keypoints"], npz["scores"], strict=True):
        np.testing.assert_allclose(pose.keypoints, keypoints, rtol=0, atol=1e-6)
        assert pose.score == pytest.approx(float(score), abs=1e-6)


# ---- the slow oracle


def photo_maps(heatmaps, tags):
    return PhotoMaps(heatmaps, (TagLayer(np.ascontiguousarray(tags.transpose(1, 2, 0, 3))),))


def assert_equal_people(people, expected):
    assert len(people) == len(expected)
    for pose, (keypoints, score) in zip(people, expected, strict=True):
        np.testing.assert_allclose(pose.keypoints, keypoints, rtol=0, atol=1e-6)
        assert pose.score == pytest.approx(score, abs=1e-6)


@given(
    seed=st.integers(0, 2**31),
    joints=st.integers(1, 5),
    cells=st.tuples(st.integers(3, 8), st.integers(3, 8)),
    dim=st.sampled_from([1, 2, 8]),
    people=st.integers(0, 8),
    steps=st.sampled_from([1, 4, 64]),
    share=st.sampled_from([0.0, 0.005, 0.03, 0.2]),
    kernel=st.sampled_from([5, 7]),
    refine=st.booleans(),
    whole=st.booleans(),
    cost=st.sampled_from(["near", "steps"]),
    absent=st.sampled_from(["origin", "zero"]),
)
@settings(max_examples=300, deadline=None)
def test_random_maps_equal_the_slow_oracle(
    oracle, exact_maps, seed, joints, cells, dim, people, steps, share, kernel, refine, whole, cost, absent
):
    heatmaps, tags = exact_maps(seed, joints, cells, dim, people, steps, share)
    base = 4 * cells[1], 4 * cells[0]
    if whole:  # several scales were merged at the base size
        heatmaps = oracle.enlarge(heatmaps, base[1], base[0])
    order = tuple(np.random.default_rng(seed).permutation(joints).tolist())
    options = DecodeSettings(order, PeakSettings(kernel), refine=refine, cost=cost, absent_joints=absent)
    to_photo = fit_geometry((3 * base[0] + 1, 2 * base[1]), 64).to_photo()
    found = decode(photo_maps(heatmaps, tags), base, to_photo, options)
    assert_equal_people(found, oracle.decode(heatmaps, tags, base, to_photo, options))


@pytest.mark.parametrize("seed", range(4))
def test_a_crowd_equals_the_slow_oracle(oracle, exact_maps, seed):
    heatmaps, tags = exact_maps(seed, 6, (16, 20), 8, 60, 64, 0.05)
    options = DecodeSettings((3, 0, 5, 1, 2, 4))
    found = decode(photo_maps(heatmaps, tags), (80, 64), IDENTITY, options)
    assert len(found) > 60
    assert_equal_people(found, oracle.decode(heatmaps, tags, (80, 64), IDENTITY, options))


# ---- by hand


def one_peak_maps(joints=2, dim=1, x=10, y=12, value=0.8, size=32):
    heatmaps = np.zeros((joints, size, size), np.float32)
    heatmaps[0, y, x] = value
    return heatmaps, np.zeros((joints, size // 4, size // 4, dim), np.float32)


def decode_one(heatmaps, tags, refine=True, to_photo=IDENTITY):
    size = heatmaps.shape[2], heatmaps.shape[1]
    return decode(
        photo_maps(heatmaps, tags), size, to_photo, DecodeSettings(tuple(range(len(heatmaps))), refine=refine)
    )


@pytest.mark.parametrize(
    ("neighbours", "shift"),
    [
        ({}, (-0.25, -0.25)),  # equal counts as smaller
        ({(11, 12): 0.3}, (0.25, -0.25)),
        ({(9, 12): 0.3, (10, 13): 0.1}, (-0.25, 0.25)),
        ({(9, 12): 0.3, (11, 12): 0.3, (10, 11): 0.2}, (-0.25, -0.25)),
    ],
)
def test_quarter_shift_goes_to_the_larger_neighbour_then_half_a_pixel(neighbours, shift):
    heatmaps, tags = one_peak_maps()
    for (x, y), value in neighbours.items():
        heatmaps[0, y, x] = value
    (person,) = decode_one(heatmaps, tags, refine=False)
    assert person.keypoints[0].tolist() == [10.5 + shift[0], 12.5 + shift[1], pytest.approx(0.8)]


def test_at_the_edge_the_missing_neighbour_is_the_cell_itself():
    for x, y, shift in ((0, 0, (-0.25, -0.25)), (31, 31, (0.25, 0.25))):
        (person,) = decode_one(*one_peak_maps(x=x, y=y), refine=False)
        assert person.keypoints[0, :2].tolist() == [x + 0.5 + shift[0], y + 0.5 + shift[1]]


def test_person_score_is_the_mean_over_all_joints_before_refinement():
    heatmaps, tags = one_peak_maps(joints=4)
    heatmaps[1:, 20, 20] = 0.05  # below the threshold of a peak, found by refinement
    for refine in (True, False):
        (person,) = decode_one(heatmaps, tags, refine)
        assert person.score == pytest.approx(0.2)
        assert person.keypoints[1:, 2].tolist() == pytest.approx([0.05 * refine] * 3)


def test_absent_joints_stay_at_0_0_without_refinement():
    to_photo = np.array([[2.0, 0.0, 7.0], [0.0, 2.0, 9.0]])
    (person,) = decode_one(*one_peak_maps(joints=3), refine=False, to_photo=to_photo)
    assert person.keypoints[1:].tolist() == [[0, 0, 0]] * 2
    assert person.keypoints[0, :2].tolist() == [2 * 10.25 + 7, 2 * 12.25 + 9]


@pytest.mark.parametrize("score", [0.0, -0.5])
def test_refined_joints_without_a_positive_score_go_to_0_0_and_keep_it(score):
    heatmaps, tags = one_peak_maps()
    heatmaps[1] = score
    (person,) = decode_one(heatmaps, tags, to_photo=np.array([[2.0, 0.0, 7.0], [0.0, 2.0, 9.0]]))
    assert person.keypoints[1].tolist() == [0, 0, score]


def test_refused_joints_have_no_score_where_absent_joints_are_zero():
    heatmaps, tags = one_peak_maps()
    heatmaps[1] = -0.5
    options = DecodeSettings((0, 1), absent_joints="zero")
    (person,) = decode(photo_maps(heatmaps, tags), (32, 32), np.array([[2.0, 0.0, 7.0], [0.0, 2.0, 9.0]]), options)
    assert person.keypoints[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("refine", [True, False])
def test_a_guess_keeps_joints_without_a_score_at_their_likeliest_place(refine):
    heatmaps, tags = one_peak_maps(joints=3)
    heatmaps[2] = heatmaps[0]
    heatmaps[2] = np.roll(heatmaps[2], (4, 6), (0, 1))
    heatmaps[1] = -0.2
    heatmaps[1, 20, 24] = -0.1
    options = DecodeSettings((0, 1, 2), refine=refine, absent_joints="guess")
    (person,) = decode(photo_maps(heatmaps, tags), (32, 32), np.array([[2.0, 0, 7], [0, 2.0, 9]]), options)
    x, y = (24.25, 20.25) if refine else (13.5, 14.5)  # the best place, or the middle of (10, 12) and (16, 16)
    assert person.keypoints[1].tolist() == [2 * x + 7, 2 * y + 9, pytest.approx(-0.1 if refine else 0.0)]


def test_refinement_measures_distance_in_thresholds():
    heatmaps, tags = one_peak_maps()
    heatmaps[1, 4, 4], heatmaps[1, 24, 24] = 0.09, 0.05
    tags[1, :4] = 0.8
    found = {}
    for threshold in (1.0, 2.0):
        options = DecodeSettings((0, 1), tag_threshold=threshold)
        (person,) = decode(photo_maps(heatmaps, tags), (32, 32), IDENTITY, options)
        found[threshold] = person.keypoints[1, :2].tolist()
    assert found == {1.0: [24.25, 24.25], 2.0: [4.25, 4.25]}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_broken_maps_are_refused(value, which):
    maps = one_peak_maps()
    maps[which].flat[5] = value
    with pytest.raises(NotFiniteError, match="NaN or infinite"):
        decode_one(*maps)


def test_no_peaks_are_no_people():
    assert decode_one(*one_peak_maps(value=0.1)) == []


def test_the_inputs_are_left_alone(exact_maps):
    maps = exact_maps(0, 3, (6, 6), 2, 3)
    before = [m.copy() for m in maps]
    decode(photo_maps(*maps), (24, 24), IDENTITY, DecodeSettings((0, 1, 2)))
    np.testing.assert_array_equal(maps[0], before[0])
    np.testing.assert_array_equal(maps[1], before[1])


def test_settings_come_from_the_config_and_the_schema():
    schema = load_schema("datasets/crowdpose.yaml")
    overrides = ["TEST.NMS_KERNEL", "7", "TEST.MAX_CANDIDATES", "12", "TEST.HEATMAP_THRESHOLD", "0.2"]
    overrides += ["TEST.TAG_THRESHOLD", "0.5", "TEST.ASSIGNMENT", "scipy", "TEST.REFINE", "False"]
    overrides += ["TEST.ONE_PEAK_PER_PLATEAU", "True", "TEST.PEAK_TIES", "rows", "TEST.ABSENT_JOINTS", "guess"]
    overrides += ["TEST.GROUPING_COST", "steps", "TEST.MAX_JOINED", "9"]
    settings = build_decode_settings(load_config(None, overrides), schema)
    assert settings == DecodeSettings(
        (13, 12, *range(12)), PeakSettings(7, 12, 0.2, True, "rows"), 0.5, "scipy", False, "guess", "steps", 9
    )
    assert build_decode_settings(load_config(), schema) == DecodeSettings((13, 12, *range(12)))


def test_the_config_may_name_another_grouping_order():
    schema = load_schema("datasets/crowdpose.yaml")
    names = list(schema.joints[::-1])
    cfg = load_config(None, ["TEST.GROUPING_ORDER", str(names)])
    assert build_decode_settings(cfg, schema).grouping_order == tuple(range(13, -1, -1))
    for wrong in (names[1:], [*names[1:], "nose"], [*names[1:], names[1]]):
        with pytest.raises(ConfigError, match=r"TEST\.GROUPING_ORDER: must name each joint of data set 'crowdpose'"):
            build_decode_settings(load_config(None, ["TEST.GROUPING_ORDER", str(wrong)]), schema)
