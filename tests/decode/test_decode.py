import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import decoded_case, recorded_case

from coupled_embedding.builders import build_decode_options
from coupled_embedding.config import load_config
from coupled_embedding.data.geometry import resize_geometry
from coupled_embedding.data.schema import load_schema
from coupled_embedding.decode.aggregate import ImageMaps
from coupled_embedding.decode.decode import check_finite, decode
from coupled_embedding.decode.fast.views import TagView
from coupled_embedding.decode.options import PRESETS, DecodeOptions, PeakOptions, with_preset
from coupled_embedding.decode.reference import decode_reference, upsample
from coupled_embedding.utils.errors import ConfigError, NonFiniteError

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
    settings = build_decode_options(cfg, load_schema(cfg.DATASET.SCHEMA))
    assert settings.grouping_order == tuple(options["joint_order"])
    limits = options["nms_kernel"], options["max_num_people"], options["detection_threshold"]
    assert (settings.peaks.kernel, settings.peaks.max_candidates, settings.peaks.threshold) == limits
    assert (settings.tag_threshold, settings.max_joined) == (options["tag_threshold"], options["max_num_people"])
    # the recorded maps are upsampled already: a cell a pixel
    size = heatmaps.shape[2], heatmaps.shape[1]
    people = decode(image_maps(heatmaps, tags), size, IDENTITY, settings)
    assert len(people) == len(npz["keypoints"])
    for pose, keypoints, score in zip(people, npz["keypoints"], npz["scores"], strict=True):
        np.testing.assert_allclose(pose.keypoints, keypoints, rtol=0, atol=1e-6)
        assert pose.score == pytest.approx(float(score), abs=1e-6)


# ---- the reference


def image_maps(heatmaps, tags, flipped_tags=None):
    views = [TagView(np.ascontiguousarray(tags.transpose(1, 2, 0, 3)))]
    if flipped_tags is not None:
        values = np.ascontiguousarray(flipped_tags.transpose(1, 2, 0, 3))
        views.append(TagView(values, tuple(range(len(heatmaps)))[::-1]))
    return ImageMaps(heatmaps, tuple(views))


def assert_equal_poses(poses, expected):
    assert len(poses) == len(expected)
    for pose, other in zip(poses, expected, strict=True):
        np.testing.assert_allclose(pose.keypoints, other.keypoints, rtol=0, atol=1e-6)
        assert pose.score == pytest.approx(other.score, abs=1e-6)


@given(
    seed=st.integers(0, 2**31),
    joints=st.integers(1, 5),
    cells=st.tuples(st.integers(3, 8), st.integers(3, 8)),
    dim=st.sampled_from([1, 2, 8]),
    people=st.integers(0, 8),
    steps=st.sampled_from([1, 4, 64]),
    share=st.sampled_from([0.0, 0.005, 0.03, 0.2]),
    whole=st.booleans(),
    flip=st.booleans(),
    kernel=st.sampled_from([5, 7]),
    limit=st.sampled_from([30, 4]),
    tag_threshold=st.sampled_from([1.0, 0.5]),
    refine=st.sampled_from(["none", "reference", "fast"]),
    preset=st.sampled_from(list(PRESETS)),
    overrides=st.fixed_dictionaries(
        {},
        optional={
            "cost": st.sampled_from(["ce", "ae"]),
            "max_joined": st.sampled_from([0, 2]),
            "assignment": st.sampled_from(["munkres", "scipy"]),
            "dedup_plateaus": st.booleans(),
            "tie_order": st.sampled_from(["topk", "rows"]),
            "missing_joints": st.sampled_from(["origin", "zero", "guess"]),
        },
    ),
)
@settings(max_examples=400, deadline=None)
def test_random_maps_equal_the_reference_whatever_the_options(
    exact_maps, seed, joints, cells, dim, people, steps, share, whole, flip,
    kernel, limit, tag_threshold, refine, preset, overrides,
):  # fmt: skip
    heatmaps, tags = exact_maps(seed, joints, cells, dim, people, steps, share)
    flipped_tags = exact_maps(seed + 1, joints, cells, dim, people, steps, share)[1] if flip else None
    base = 4 * cells[1], 4 * cells[0]
    if whole:  # several scales were merged at the base size
        heatmaps = upsample(heatmaps, base[1], base[0])
    order = tuple(np.random.default_rng(seed).permutation(joints).tolist())
    options = DecodeOptions(order, PeakOptions(kernel, limit), tag_threshold, refine=refine)
    options = with_preset(options, preset, **overrides)
    to_image = resize_geometry((3 * base[0] + 1, 2 * base[1]), 64).to_image()
    maps = image_maps(heatmaps, tags, flipped_tags)
    assert_equal_poses(decode(maps, base, to_image, options), decode_reference(maps, base, to_image, options))


@pytest.mark.parametrize("seed", range(4))
def test_a_crowd_equals_the_reference(exact_maps, seed):
    heatmaps, tags = exact_maps(seed, 6, (16, 20), 8, 60, 64, 0.05)
    options, maps = DecodeOptions((3, 0, 5, 1, 2, 4)), image_maps(heatmaps, tags)
    found = decode(maps, (80, 64), IDENTITY, options)
    assert len(found) > 60
    assert_equal_poses(found, decode_reference(maps, (80, 64), IDENTITY, options))


@pytest.mark.reference
@pytest.mark.parametrize("refine", ["none", "reference", "fast"])
def test_recorded_maps_equal_the_reference(decode_case, refine):
    maps, geometry, options = recorded_case(decode_case)
    where, options = (geometry.base_size, geometry.to_image()), replace(options, refine=refine)
    assert_equal_poses(decode(maps, *where, options), decode_reference(maps, *where, options))


# ---- by hand


def one_peak_maps(joints=2, dim=1, x=10, y=12, value=0.8, size=32):
    heatmaps = np.zeros((joints, size, size), np.float32)
    heatmaps[0, y, x] = value
    return heatmaps, np.zeros((joints, size // 4, size // 4, dim), np.float32)


def decode_one(heatmaps, tags, refine="fast", to_image=IDENTITY):
    size = heatmaps.shape[2], heatmaps.shape[1]
    return decode(image_maps(heatmaps, tags), size, to_image, DecodeOptions(tuple(range(len(heatmaps))), refine=refine))


@pytest.mark.parametrize(
    ("neighbors", "shift"),
    [
        ({}, (-0.25, -0.25)),  # equal counts as smaller
        ({(11, 12): 0.3}, (0.25, -0.25)),
        ({(9, 12): 0.3, (10, 13): 0.1}, (-0.25, 0.25)),
        ({(9, 12): 0.3, (11, 12): 0.3, (10, 11): 0.2}, (-0.25, -0.25)),
    ],
)
def test_quarter_shift_goes_to_the_larger_neighbor_then_half_a_pixel(neighbors, shift):
    heatmaps, tags = one_peak_maps()
    for (x, y), value in neighbors.items():
        heatmaps[0, y, x] = value
    (person,) = decode_one(heatmaps, tags, refine="none")
    assert person.keypoints[0].tolist() == [10.5 + shift[0], 12.5 + shift[1], pytest.approx(0.8)]


def test_at_the_edge_the_missing_neighbor_is_the_cell_itself():
    for x, y, shift in ((0, 0, (-0.25, -0.25)), (31, 31, (0.25, 0.25))):
        (person,) = decode_one(*one_peak_maps(x=x, y=y), refine="none")
        assert person.keypoints[0, :2].tolist() == [x + 0.5 + shift[0], y + 0.5 + shift[1]]


def test_person_score_is_the_mean_over_all_joints_before_refinement():
    heatmaps, tags = one_peak_maps(joints=4)
    heatmaps[1:, 20, 20] = 0.05  # below the threshold of a peak, found by refinement
    for refine, score in (("none", 0.0), ("reference", 0.05), ("fast", 0.05)):
        (person,) = decode_one(heatmaps, tags, refine)
        assert person.score == pytest.approx(0.2)
        assert person.keypoints[1:, 2].tolist() == pytest.approx([score] * 3)


def test_missing_joints_stay_at_0_0_without_refinement():
    to_image = np.array([[2.0, 0.0, 7.0], [0.0, 2.0, 9.0]])
    (person,) = decode_one(*one_peak_maps(joints=3), refine="none", to_image=to_image)
    assert person.keypoints[1:].tolist() == [[0, 0, 0]] * 2
    assert person.keypoints[0, :2].tolist() == [2 * 10.25 + 7, 2 * 12.25 + 9]


@pytest.mark.parametrize("score", [0.0, -0.5])
def test_refined_joints_without_a_positive_score_go_to_0_0_and_keep_it(score):
    heatmaps, tags = one_peak_maps()
    heatmaps[1] = score
    (person,) = decode_one(heatmaps, tags, to_image=np.array([[2.0, 0.0, 7.0], [0.0, 2.0, 9.0]]))
    assert person.keypoints[1].tolist() == [0, 0, score]


def test_refined_joints_without_a_positive_score_have_none_where_missing_joints_are_zero():
    heatmaps, tags = one_peak_maps()
    heatmaps[1] = -0.5
    options = DecodeOptions((0, 1), missing_joints="zero")
    (person,) = decode(image_maps(heatmaps, tags), (32, 32), np.array([[2.0, 0.0, 7.0], [0.0, 2.0, 9.0]]), options)
    assert person.keypoints[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("refine", ["none", "reference", "fast"])
def test_a_guess_keeps_joints_without_a_score_at_their_likeliest_place(refine):
    heatmaps, tags = one_peak_maps(joints=3)
    heatmaps[2] = heatmaps[0]
    heatmaps[2] = np.roll(heatmaps[2], (4, 6), (0, 1))
    heatmaps[1] = -0.2
    heatmaps[1, 20, 24] = -0.1
    options = DecodeOptions((0, 1, 2), refine=refine, missing_joints="guess")
    (person,) = decode(image_maps(heatmaps, tags), (32, 32), np.array([[2.0, 0, 7], [0, 2.0, 9]]), options)
    x, y = (
        (13.5, 14.5) if refine == "none" else (24.25, 20.25)
    )  # the middle of (10, 12) and (16, 16), or the best place
    assert person.keypoints[1].tolist() == [2 * x + 7, 2 * y + 9, pytest.approx(0.0 if refine == "none" else -0.1)]


def test_refinement_measures_distance_in_thresholds():
    heatmaps, tags = one_peak_maps()
    heatmaps[1, 4, 4], heatmaps[1, 24, 24] = 0.09, 0.05
    tags[1, :4] = 0.8
    found = {}
    for threshold in (1.0, 2.0):
        options = DecodeOptions((0, 1), tag_threshold=threshold)
        (person,) = decode(image_maps(heatmaps, tags), (32, 32), IDENTITY, options)
        found[threshold] = person.keypoints[1, :2].tolist()
    assert found == {1.0: [24.25, 24.25], 2.0: [4.25, 4.25]}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_non_finite_maps_are_an_error(value, which):
    maps = one_peak_maps()
    maps[which].flat[5] = value
    with pytest.raises(NonFiniteError, match="NaN or infinite"):
        decode_one(*maps)


def test_no_peaks_give_no_poses():
    assert decode_one(*one_peak_maps(value=0.1)) == []


def test_the_inputs_are_left_alone(exact_maps):
    maps = exact_maps(0, 3, (6, 6), 2, 3)
    before = [m.copy() for m in maps]
    decode(image_maps(*maps), (24, 24), IDENTITY, DecodeOptions((0, 1, 2)))
    np.testing.assert_array_equal(maps[0], before[0])
    np.testing.assert_array_equal(maps[1], before[1])


def test_settings_come_from_the_config_and_the_schema():
    schema = load_schema("datasets/crowdpose.yaml")
    overrides = ["TEST.NMS_KERNEL", "7", "TEST.MAX_CANDIDATES", "12", "TEST.HEATMAP_THRESHOLD", "0.2"]
    overrides += ["TEST.TAG_THRESHOLD", "0.5", "TEST.ASSIGNMENT", "scipy", "TEST.REFINE", "none"]
    overrides += ["TEST.NMS_DEDUP_PLATEAUS", "True", "TEST.NMS_TIE_ORDER", "rows", "TEST.MISSING_JOINTS", "guess"]
    overrides += ["TEST.GROUPING_COST", "ae", "TEST.MAX_JOINED", "9"]
    settings = build_decode_options(load_config(None, overrides), schema)
    assert settings == DecodeOptions(
        (13, 12, *range(12)), PeakOptions(7, 12, 0.2, True, "rows"), 0.5, "scipy", "none", "guess", "ae", 9
    )
    assert build_decode_options(load_config(), schema) == DecodeOptions((13, 12, *range(12)))


RELEASED = DecodeOptions(tuple(range(17)))
HIGHERHRNET = replace(RELEASED, cost="ae", max_joined=30, missing_joints="zero")
CLEAN_PEAKS = PeakOptions(dedup_plateaus=True, tie_order="rows")
CLEAN = replace(RELEASED, peaks=CLEAN_PEAKS, assignment="scipy", missing_joints="guess")


@pytest.mark.parametrize(("name", "expected"), [("released", RELEASED), ("higherhrnet", HIGHERHRNET), ("clean", CLEAN)])
def test_compat_names_whose_decode_it_is(name, expected):
    schema = load_schema("datasets/coco.yaml")
    assert build_decode_options(load_config(None, ["TEST.COMPAT", name]), schema) == expected
    assert with_preset(RELEASED, name) == with_preset(CLEAN, name) == expected


@pytest.mark.parametrize("compat", list(PRESETS))
@pytest.mark.parametrize(
    ("option", "text", "name", "value"),
    [
        ("GROUPING_COST", "ce", "cost", "ce"),
        ("GROUPING_COST", "ae", "cost", "ae"),
        ("MAX_JOINED", "0", "max_joined", 0),
        ("MAX_JOINED", "9", "max_joined", 9),
        ("ASSIGNMENT", "scipy", "assignment", "scipy"),
        ("ASSIGNMENT", "munkres", "assignment", "munkres"),
        ("NMS_DEDUP_PLATEAUS", "True", "dedup_plateaus", True),
        ("NMS_DEDUP_PLATEAUS", "False", "dedup_plateaus", False),
        ("NMS_TIE_ORDER", "rows", "tie_order", "rows"),
        ("NMS_TIE_ORDER", "topk", "tie_order", "topk"),
        ("MISSING_JOINTS", "origin", "missing_joints", "origin"),
        ("MISSING_JOINTS", "zero", "missing_joints", "zero"),
        ("MISSING_JOINTS", "guess", "missing_joints", "guess"),
    ],
)
def test_a_single_option_overrides_its_preset_and_nothing_else(compat, option, text, name, value):
    cfg = load_config(None, ["TEST.COMPAT", compat, f"TEST.{option}", text])
    options = build_decode_options(cfg, load_schema("datasets/coco.yaml"))
    preset = with_preset(RELEASED, compat)
    if name in ("dedup_plateaus", "tie_order"):
        assert options == replace(preset, peaks=replace(preset.peaks, **{name: value}))
    else:
        assert options == replace(preset, **{name: value})


def test_presets_set_the_same_options():
    assert len({frozenset(values) for values in PRESETS.values()}) == 1


def test_the_config_may_name_another_grouping_order():
    schema = load_schema("datasets/crowdpose.yaml")
    names = list(schema.joints[::-1])
    cfg = load_config(None, ["TEST.GROUPING_ORDER", str(names)])
    assert build_decode_options(cfg, schema).grouping_order == tuple(range(13, -1, -1))
    for wrong in (names[1:], [*names[1:], "nose"], [*names[1:], names[1]]):
        with pytest.raises(ConfigError, match=r"TEST\.GROUPING_ORDER: data set 'crowdpose': must name each joint once"):
            build_decode_options(load_config(None, ["TEST.GROUPING_ORDER", str(wrong)]), schema)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [1, 3, 4, 7, 8])
def test_a_wrong_value_is_noticed_wherever_it_is(size, wrong):
    for place in range(size):
        heatmaps = np.full((1, 1, size), 3e38, np.float32)  # whose sum overflows
        maps = ImageMaps(heatmaps, ())
        check_finite(maps)
        heatmaps[0, 0, place] = wrong
        with pytest.raises(NonFiniteError):
            check_finite(maps)
