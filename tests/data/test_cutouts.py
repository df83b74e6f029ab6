"""Files of cut-outs: joints by name, people cut out of COCO-format files, and what is wrong with invalid files."""

import json
import multiprocessing
import pickle
import re
import zipfile

import cv2
import numpy as np
import pytest
from cutout_files import JOINTS, person, rectangle, write_cutouts
from invalid_images import encoded

from coupled_embedding.data.copy_paste import CutoutSource
from coupled_embedding.utils.errors import DatasetError

KEYPOINTS = ((15, 6, 2), (4, 30, 1), (0, 0, 0))
PERSON = person(*rectangle(), KEYPOINTS, scores=(0.9, 0.5, 0))


def test_joints_are_matched_by_name(tmp_path):
    path = write_cutouts(tmp_path / "people.json", [PERSON])
    cutout = CutoutSource(path, ["left_paw", "tail", "nose"]).load(0)
    np.testing.assert_array_equal(cutout.keypoints, np.float32([(4, 30, 1), (0, 0, 0), (15, 6, 2)]))
    np.testing.assert_array_equal(cutout.confidence, np.float32([0.5, 0, 0.9]))
    assert (cutout.keypoints.dtype, cutout.confidence.dtype) == (np.float32, np.float32)


def test_without_scores_labelled_joints_count_fully(tmp_path):
    source = CutoutSource(write_cutouts(tmp_path / "people.json", [person(*rectangle(), KEYPOINTS)]), JOINTS)
    assert source.load(0).confidence.tolist() == [1, 1, 0]


@pytest.mark.parametrize("unpacked", [False, True])
def test_images_come_from_the_zip_file_or_folder_of_the_same_name(tmp_path, unpacked):
    shapes = [rectangle(color=(9, n, 200)) for n in (10, 20, 30)]
    path = write_cutouts(tmp_path / "people.json", [person(*shape) for shape in shapes])
    if unpacked:
        with zipfile.ZipFile(tmp_path / "people.zip") as archive:
            archive.extractall(tmp_path / "people")
        (tmp_path / "people.zip").unlink()
    source = CutoutSource(path, JOINTS)
    assert len(source) == 3
    for number, (pixels, mask) in enumerate(shapes):
        np.testing.assert_array_equal(source.load(number).pixels, pixels)
        np.testing.assert_array_equal(source.load(number).mask, mask)


def test_a_source_works_in_other_processes(tmp_path):
    people = [person(*rectangle(color=(n, n, n))) for n in range(20)]
    source = CutoutSource(write_cutouts(tmp_path / "people.json", people), JOINTS)
    before = source.load(0)  # this process has its handle before the others fork
    with multiprocessing.get_context("fork").Pool(2) as pool:
        loaded = pool.map(source.load, list(range(20)) * 3)
    assert [int(cutout.pixels[0, 0, 0]) for cutout in loaded] == list(range(20)) * 3
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).load(0).pixels, before.pixels)


def annotation(number, **changed):
    """An annotation with a box of 30 × 70 at (20, 10), all of it segmented, and six labelled joints."""
    corners = [20, 10, 50, 10, 50, 80, 20, 80]
    joints = [(30, 20, 2), (25, 40, 1), (60, 40, 2), (30, 79, 2), (45, 12, 2), (40, 40, 2)]
    entry = {"id": number, "image_id": 1, "category_id": 1, "bbox": [20, 10, 30, 70], "segmentation": [corners]}
    return {**entry, "keypoints": [v for joint in joints for v in joint], **changed}


def write_coco(folder, annotations):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 100, 3), np.uint8)
    (folder / "coco").mkdir()
    (folder / "coco" / "1.png").write_bytes(encoded(".png", pixels))
    images = [{"id": 1, "file_name": "1.png", "width": 100, "height": 90}]
    categories = [{"id": 1, "name": "person", "keypoints": list("abcdef")}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "coco.json").write_text(json.dumps(content))
    return folder / "coco.json", pixels


def test_people_of_a_coco_format_file_are_cut_out_along_their_segmentations(tmp_path):
    path, pixels = write_coco(tmp_path, [annotation(1)])
    cutout = CutoutSource(path, ["x", "c", *"fedba"]).load(0)
    # the polygon's area; pycocotools decides on its border pixels
    assert (cutout.mask[1:-1, 1:-1] == 255).all()
    height, width = cutout.mask.shape
    assert (height, width) == pytest.approx((70, 30), abs=1)
    np.testing.assert_array_equal(cutout.pixels, pixels[10 : 10 + height, 20 : 20 + width])
    # joint c lies outside and was labelled as seen
    expected = [(0, 0, 0), (40, 30, 1), (20, 30, 2), (25, 2, 2), (10, 69, 2), (5, 30, 1), (10, 10, 2)]
    np.testing.assert_array_equal(cutout.keypoints[1:], np.float32(expected[1:]))
    assert cutout.keypoints[0, 2] == 0
    assert cutout.confidence.tolist() == [0, 1, 1, 1, 1, 1, 1]


def test_crowds_and_people_with_little_to_show_are_not_cut_out(tmp_path):
    few = [*annotation(1)["keypoints"][:-1], 0]
    unusable = [
        annotation(1, iscrowd=1),
        annotation(2, segmentation=[]),
        annotation(3, keypoints=few),
        annotation(4, bbox=[20, 10, 30, 63]),
    ]
    path, _ = write_coco(tmp_path, [*unusable, annotation(5)])
    assert len(CutoutSource(path, "abcdef")) == 1
    path.write_text(json.dumps({**json.loads(path.read_text()), "annotations": unusable}))
    with pytest.raises(DatasetError, match=r"coco\.json: 'annotations' has no person that can be cut out"):
        CutoutSource(path, "abcdef")


@pytest.mark.bad_input
def test_an_invalid_segmentation_is_named(tmp_path):
    path, _ = write_coco(tmp_path, [annotation(7, segmentation=[[1, 2, 3]])])
    with pytest.raises(DatasetError, match=r"coco\.json: annotation 7 of image 1: segmentation: a polygon must be"):
        CutoutSource(path, "abcdef")


@pytest.mark.bad_input
def test_a_segmentation_without_pixels_is_named(tmp_path):
    path, _ = write_coco(tmp_path, [annotation(7, segmentation=[[500, 500, 510, 500, 510, 510]])])
    with pytest.raises(DatasetError, match=r"1\.png: a segmentation of image 1 covers no pixel"):
        CutoutSource(path, "abcdef").load(0)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"keypoint": []}, "unknown field 'keypoint'; allowed: file_name, height, keypoint_scores, "),
        ({"file_name": 3}, "'file_name' must be a file's name, without '..', got 3"),
        ({"file_name": "/etc/passwd"}, "'file_name' must be a file's name"),
        ({"mask": "../../x.png"}, "'mask' must be a file's name, without '..', got '../../x.png'"),
        ({"mask": "a\0"}, "'mask' must be a file's name"),
        ({"width": 0}, "'width' must be a whole number from 1, got 0"),
        ({"height": "60"}, "'height' must be a whole number from 1, got '60'"),
        ({"keypoints": [1, 2, 2]}, "'keypoints' must have 9 numbers, got 3"),
        ({"keypoints": None}, "'keypoints' must have 9 numbers, got none"),
        ({"keypoints": [1, 2, 2] * 2 + [1, 2, 3]}, "'keypoints': labels must be 0, 1 or 2, got [2, 2, 3]"),
        ({"keypoints": [1, 2, 2] * 2 + [float("nan"), 2, 2]}, "'keypoints': expected numbers from -100000 to 100000"),
        ({"keypoints": [1, 2, 2] * 2 + ["1", 2, 2]}, "'keypoints': expected numbers from -100000 to 100000, got '1'"),
        ({"keypoint_scores": [0.5, 0.5, 1.5]}, "'keypoint_scores': expected numbers from 0 to 1, got 1.5"),
        ({"keypoint_scores": [0.5]}, "'keypoint_scores' must have 3 numbers, got 1"),
    ],
)
def test_an_invalid_person_is_named_with_file_and_field(tmp_path, changed, reason):
    path = write_cutouts(tmp_path / "people.json", [PERSON], **changed)
    with pytest.raises(DatasetError, match=re.escape(f"people.json: people[0]: {reason}")):
        CutoutSource(path, JOINTS)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: {**c, "peoples": []}, "unknown field 'peoples'; allowed: keypoint_names, people"),
        (lambda c: {**c, "people": {}}, "'people' must be a list, got {}"),
        (lambda c: {**c, "people": []}, "'people' has no person that can be cut out"),
        (lambda c: {**c, "people": [7]}, "people[0]: expected a mapping, got 7"),
        (lambda c: {**c, "people": [{"file_name": "0.png"}]}, "people[0]: field 'height' is missing"),
        (lambda c: {"people": c["people"]}, "'keypoint_names' must list the names of the joints, got None"),
        (lambda c: {**c, "keypoint_names": ["nose", 1, 2]}, "'keypoint_names' must list the names of the joints"),
        (lambda c: {**c, "keypoint_names": ["nose", "nose", "tail"]}, "'keypoint_names' has a name twice"),
        (lambda c: {**c, "keypoint_names": list("abc")}, "none of its joints ['a', 'b', 'c'] is one of ['nose', "),
        (lambda c: [c], "expected a file of cut-outs with 'people', or a COCO-format file ('annotations')"),
        (lambda c: {"annotations": []}, "'keypoints' of a category must list the names of the joints, got None"),
    ],
)
def test_an_invalid_file_is_named_with_the_field(tmp_path, change, reason):
    path = write_cutouts(tmp_path / "people.json", [PERSON])
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(DatasetError, match=re.escape(f"people.json: {reason}")):
        CutoutSource(path, JOINTS)


@pytest.mark.bad_input
def test_files_that_are_missing_or_no_json_are_named(tmp_path):
    path = write_cutouts(tmp_path / "people.json", [PERSON])
    (tmp_path / "people.zip").unlink()
    with pytest.raises(
        DatasetError, match=r"people\.json: there is neither .*people\.zip nor the folder .*people with"
    ):
        CutoutSource(path, JOINTS)
    path.write_text("{'people': ")
    with pytest.raises(DatasetError, match=r"people\.json: cannot read this file of cut-outs: Expecting property name"):
        CutoutSource(path, JOINTS)
    with pytest.raises(DatasetError, match=r"no\.json: cannot read this file of cut-outs: No such file"):
        CutoutSource(tmp_path / "no.json", JOINTS)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("people", "changed", "reason"),
    [
        ([PERSON], {"file_name": "no.png"}, r"people\.zip/no\.png: the archive holds neither 'no\.png' nor"),
        ([PERSON], {"mask": "no.png"}, r"people\.zip/no\.png: the archive holds neither"),
        ([PERSON], {"width": 31}, r"0\.png: the 'file_name' of people\[0\] in .*people\.json is 30×60 .* are 31×60"),
        (
            [person(rectangle()[0], np.zeros((60, 30), np.uint8))],
            {},
            r"0_mask\.png: the 'mask' of people\[0\] in .*people\.json is empty",
        ),
        (
            [(rectangle()[0], np.full((30, 15), 255, np.uint8), PERSON[2])],
            {},
            r"0_mask\.png: the 'mask' of people\[0\] in .*people\.json is 15×30 pixels, but .* are 30×60",
        ),
    ],
)
def test_invalid_images_are_named_when_they_are_read(tmp_path, people, changed, reason):
    source = CutoutSource(write_cutouts(tmp_path / "people.json", people, **changed), JOINTS)
    with pytest.raises(DatasetError, match=reason):
        source.load(0)


def test_real_cutouts_have_their_joints_inside_their_masks(real_dir):
    names = json.loads((real_dir / "ccp_cutouts.json").read_text())["keypoint_names"]
    source = CutoutSource(real_dir / "ccp_cutouts.json", names)
    assert len(source) > 900
    for number in range(0, len(source), 50):
        cutout = source.load(number)
        labelled = cutout.keypoints[cutout.keypoints[:, 2] > 0]
        x, y = np.rint(labelled[:, :2]).astype(int).T
        assert (cutout.mask[y, x] > 127).sum() >= 12
        assert ((cutout.confidence > 0) == (cutout.keypoints[:, 2] > 0)).all()
        # people of street fashion stand upright, and fill their crops
        height = cv2.boundingRect(cutout.mask)[3]
        assert 0.9 * cutout.mask.shape[0] < height <= cutout.mask.shape[0]
        by_name = dict(zip(names, cutout.keypoints, strict=True))
        assert by_name["left_shoulder"][1] < by_name["left_hip"][1] or not by_name["left_hip"][2]
