import importlib.util
import json
import re
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coupled_embedding.data.crowd_index import crowd_index
from coupled_embedding.utils.errors import DatasetError
from synthetic_crowd import (
    CrowdSettings,
    Layout,
    layout_writer,
    read_layouts,
    render_layout,
    write_dataset,
    write_layouts,
)
from synthetic_crowd.writer import category

# a standing person who faces the camera: shares of the box, in CrowdPose's order
STANDING = np.array(
    [
        (0.80, 0.19), (0.20, 0.19), (0.88, 0.36), (0.12, 0.36), (0.90, 0.50), (0.10, 0.50), (0.66, 0.52),
        (0.34, 0.52), (0.66, 0.73), (0.34, 0.73), (0.66, 0.95), (0.34, 0.95), (0.50, 0.01), (0.50, 0.16),
    ]
)  # fmt: skip


def person(x, y, width, height, image_id=1, labelled=range(14), **more):
    joints = np.zeros((14, 3))
    for joint in labelled:
        joints[joint] = (*(STANDING[joint] * (width, height) + (x, y)), 2)
    entry = {"image_id": image_id, "bbox": [x, y, width, height], "keypoints": joints.ravel().tolist()}
    return entry | {"iscrowd": 0, "category_id": 1, "id": 7} | more


def document(people, sizes=((320, 240),)):
    images = [{"id": n, "width": w, "height": h, "file_name": f"secret{n}.jpg"} for n, (w, h) in enumerate(sizes, 1)]
    return {"images": images, "annotations": people, "categories": [category()]}


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def layout_of(tmp_path, people, size=(320, 240)):
    (layout,) = read_layouts(write(tmp_path / "one.json", document(people, [size]))).layouts
    return layout


def overlap(first, second):
    """Intersection over union of two boxes."""
    low = np.maximum(first[:2], second[:2])
    high = np.minimum(first[:2] + first[2:], second[:2] + second[2:])
    shared = np.prod(np.clip(high - low, 0, None))
    return shared / (np.prod(first[2:]) + np.prod(second[2:]) - shared)


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    """An annotation file of eight images, whose people are a generated crowd's."""
    root = tmp_path_factory.mktemp("annotated")
    return write_dataset(root, "val", CrowdSettings(192, 144, 2, 6), 5, 8)


def test_people_are_where_the_annotated_ones_are(annotated):
    wanted, found, overlaps = [], [], []
    for layout in read_layouts(annotated).layouts:
        scene = render_layout(layout, 144, 0)
        assert scene.image.shape == (144, 192, 3)
        assert len(layout.boxes) - 1 <= len(scene.boxes) <= len(layout.boxes)
        wanted.append(crowd_index(layout.keypoints, layout.boxes))
        found.append(scene.crowd_index)
        overlaps += [max(overlap(box, other) for other in scene.boxes) for box in layout.boxes]
    assert np.median(overlaps) > 0.75
    assert np.corrcoef(wanted, found)[0, 1] > 0.8
    assert np.abs(np.subtract(wanted, found)).mean() < 0.15


def test_the_pose_is_the_annotated_one_as_far_as_poses_were_drawn(tmp_path):
    layout = layout_of(tmp_path, [person(60, 40, 60, 170), person(200, 40, 60, 170)])
    scene = render_layout(layout, 240, 3)
    assert len(scene.boxes) == 2
    for number, box in enumerate(layout.boxes):
        assert overlap(box, scene.boxes[number]) > 0.8
        distance = np.linalg.norm(scene.keypoints[number, :, :2] - layout.keypoints[number, :, :2], axis=1)
        assert distance.mean() < 0.1 * box[3]


def test_a_turned_person_is_seen_from_behind(tmp_path):
    mirrored = [1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 12, 13]
    entry = person(100, 40, 60, 170)
    turned = entry | {"keypoints": np.reshape(entry["keypoints"], (14, 3))[mirrored].ravel().tolist()}
    for annotation, sign in ((entry, 1), (turned, -1)):
        joints = render_layout(layout_of(tmp_path, [annotation]), 240, 0).keypoints[0]
        assert sign * (joints[0, 0] - joints[1, 0]) > 10  # the left shoulder is on the right of who faces the camera


def test_the_larger_person_is_in_front(tmp_path):
    people = [person(110, 60, 60, 140), person(125, 30, 84, 200)]
    for seed in range(4):
        scene = render_layout(layout_of(tmp_path, people), 240, seed)
        front = next(n for n, box in enumerate(scene.boxes) if box[3] == scene.boxes[:, 3].max())
        x, y, _ = scene.keypoints[front, 13]  # the neck, behind which the other one is
        assert scene.person_map[round(float(y)), round(float(x))] == front + 1
        assert (scene.keypoints[front, :, 2] == 2).sum() >= 12


def test_whom_the_border_clips_reaches_beyond_it(tmp_path):
    upper_body = [0, 1, 2, 3, 4, 5, 6, 7, 12, 13]
    half = person(100, 60, 130, 340, labelled=upper_body)
    half["bbox"] = [100, 60, 130, 180]
    scene = render_layout(layout_of(tmp_path, [half]), 240, 0)
    assert (scene.keypoints[0, 10:12, 2] == 0).all()  # ankles
    assert (scene.keypoints[0, [0, 1, 12, 13], 2] == 2).all()
    assert scene.boxes[0, 1] + scene.boxes[0, 3] == 240
    assert overlap(np.array(half["bbox"]), scene.boxes[0]) > 0.75


def test_people_without_joints_have_their_box(tmp_path):
    layout = layout_of(tmp_path, [person(40, 50, 60, 150, labelled=()), person(170, 150, 120, 50, labelled=())])
    scene = render_layout(layout, 240, 1)
    for number, box in enumerate(layout.boxes):
        assert overlap(box, scene.boxes[number]) > 0.6


@given(st.integers(20, 900), st.integers(20, 900), st.integers(48, 300))
def test_a_canvas_has_the_aspect_ratio_up_to_two(width, height, short_side):
    boxes = np.array([[0.0, 0.0, width, height], [width / 2, height / 4, width / 4, height / 4]])
    canvas = Layout(0, width, height, boxes, np.ones((2, 14, 3))).scaled(short_side)
    assert min(canvas.width, canvas.height) == short_side
    assert (canvas.width >= canvas.height) == (width >= height) or canvas.width == canvas.height
    ratio = max(width, height) / min(width, height)
    assert abs(max(canvas.width, canvas.height) - min(ratio, 2) * short_side) <= 0.5
    low, high = canvas.boxes[:, :2], canvas.boxes[:, :2] + canvas.boxes[:, 2:]
    assert (low > -1e-6).all()
    assert (high < np.array([canvas.width, canvas.height]) + 1e-6).all()
    scale = canvas.boxes[0, 2:] / (width, height)
    assert scale[0] == pytest.approx(scale[1])
    # what is in the middle stays there
    np.testing.assert_allclose(canvas.boxes[0, :2] + canvas.boxes[0, 2:] / 2, [canvas.width / 2, canvas.height / 2])
    np.testing.assert_allclose(canvas.boxes[1, 2:], boxes[1, 2:] * scale)


def test_shares_of_the_images_are_disjoint_and_complete(annotated):
    shares = [[layout.index for layout in read_layouts(annotated, 3, offset).layouts] for offset in range(3)]
    assert shares == [[0, 3, 6], [1, 4, 7], [2, 5]]


def test_crowds_tiny_boxes_and_images_without_people_are_left_out(tmp_path):
    people = [
        person(9, 9, 60, 120, 2), person(0, 0, 200, 200, 2, iscrowd=1), person(5, 5, 1, 80, 2),
        person(5, 5, 90, 90, 3, iscrowd=1), person(500, 5, 90, 90, 1),
    ]  # fmt: skip
    (layout,) = read_layouts(write(tmp_path / "a.json", document(people, [(320, 240)] * 3))).layouts
    assert layout.index == 1
    np.testing.assert_array_equal(layout.boxes, [[9, 9, 60, 120]])


def test_of_too_many_people_the_largest_stay(tmp_path):
    people = [person(2 * n, 5, 3, 30 + n % 60) for n in range(120)]
    boxes = layout_of(tmp_path, people).boxes
    assert len(boxes) == 99
    assert boxes[:, 3].min() >= sorted(30 + n % 60 for n in range(120))[-99]
    assert (np.diff(boxes[:, 0]) > 0).all()  # in the file's order


def test_the_same_seed_draws_the_same_and_another_one_others(annotated):
    layout = read_layouts(annotated).layouts[2]
    first, again, other = (render_layout(layout, 64, seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.keypoints, again.keypoints)
    assert not np.array_equal(first.image, other.image)


def test_the_written_folder_is_that_of_a_generated_crowd(annotated, tmp_path):
    generated = json.loads(annotated.read_text())
    written = write_layouts(tmp_path, "test", annotated, 0, 64, 2, 1)
    assert written == tmp_path / "json" / "synthetic_test.json"
    content = json.loads(written.read_text())
    for key in ("images", "annotations"):
        assert set(content[key][0]) == set(generated[key][0])
    assert content["categories"] == generated["categories"]
    assert [image["id"] % 1_000_000 for image in content["images"]] == [2, 4, 6, 8]
    assert {path.name for path in (tmp_path / "images").iterdir()} == {i["file_name"] for i in content["images"]}


def test_the_file_names_its_source_by_checksum_only(tmp_path):
    source = write(tmp_path / "source.json", document([person(60, 40, 60, 170)]))
    text = write_layouts(tmp_path / "out", "test", source, 3, 48).read_text()
    info = json.loads(text)["info"]
    assert info["annotations_sha256"] == sha256(source.read_bytes()).hexdigest()
    assert (info["seed"], info["short_side"], info["every"], info["offset"]) == (3, 48, 1, 0)
    assert "secret" not in text
    assert "source.json" not in text


def test_workers_write_the_same_files(annotated, tmp_path):
    alone = write_layouts(tmp_path / "alone", "val", annotated, 1, 48, 4)
    helped = write_layouts(tmp_path / "helped", "val", annotated, 1, 48, 4, workers=1)
    assert alone.read_bytes() == helped.read_bytes()
    for image in (tmp_path / "alone" / "images").iterdir():
        assert image.read_bytes() == (tmp_path / "helped" / "images" / image.name).read_bytes()


def test_layouts_are_rendered_once_and_others_are_refused(annotated, tmp_path, monkeypatch):
    path = write_layouts(tmp_path, "val", annotated, 1, 48, 4)
    before = path.read_bytes()
    monkeypatch.setattr(layout_writer, "render_layout", lambda *_: pytest.fail("rendered again"))
    assert write_layouts(tmp_path, "val", annotated, 1, 48, 4) == path
    other = write(tmp_path / "other.json", json.loads(annotated.read_text()) | {"more": 1})
    for named, arguments in {
        "seed": (annotated, 2, 48, 4), "short_side": (annotated, 1, 50, 4), "every": (annotated, 1, 48, 2),
        "offset": (annotated, 1, 48, 4, 1), "annotations_sha256": (other, 1, 48, 4),
    }.items():  # fmt: skip
        with pytest.raises(DatasetError, match=rf"another dataset \(different {named}\)"):
            write_layouts(tmp_path, "val", *arguments)
    with pytest.raises(DatasetError, match="another dataset"):
        write_dataset(tmp_path, "val", CrowdSettings(), 1, 2)
    assert path.read_bytes() == before


def test_an_interrupted_run_leaves_nothing(annotated, tmp_path, monkeypatch):
    def interrupted(layout, short_side, seed):
        if layout.index == 4:
            raise KeyboardInterrupt
        return render_layout(layout, short_side, seed)

    monkeypatch.setattr(layout_writer, "render_layout", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_layouts(tmp_path / "out", "val", annotated, 0, 48, 2)
    assert list((tmp_path / "out").iterdir()) == []


def without(key, number=None):
    content = document([person(60, 40, 60, 170)])
    entry = content if number is None else content[number][0]
    return (
        {**content, number: [{k: v for k, v in entry.items() if k != key}]}
        if number
        else {k: v for k, v in content.items() if k != key}
    )


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([1, 2], "'images' must be a list"),
        (without("annotations"), "'annotations' must be a list"),
        (without("categories"), "'categories' must be a list.*CrowdPose's format"),
        (without("bbox", "annotations"), "'bbox' of annotation 7 must be 4 finite numbers, not None"),
        (without("width", "images"), "needs a 'width' and a 'height'"),
        (document([person(1, 2, 30, 40, keypoints=[1, 2, 3])]), "'keypoints' of annotation 7 must be 42 finite"),
        (document([person(1, 2, 30, 40, bbox=[1, 2, 3, float("nan")])]), "'bbox' of annotation 7 must be 4 finite"),
        (document([person(1, 2, 30, 40, bbox="wide")]), "'bbox' of annotation 7 must be 4 finite"),
        (document(["person"]), "'person' needs 'image_id', a number or a text"),
        (document([person(1, 2, 30, 40, [1])]), "needs 'image_id', a number or a text"),
        (without("id", "images"), "needs 'id', a number or a text"),
        (document([]), "none of the 1 chosen images has a person"),
        (document([]) | {"categories": [{"keypoints": ["nose"]}]}, r"are \['nose'\]; layouts need CrowdPose's 14"),
        (document([]) | {"categories": ["person"]}, "are None; layouts need CrowdPose's 14"),
    ],
)
def test_what_is_wrong_with_the_file_is_named_and_nothing_is_written(tmp_path, content, text):
    source = write(tmp_path / "source.json", content)
    with pytest.raises(DatasetError, match=re.escape(str(source)) + ".*" + text):
        write_layouts(tmp_path / "out", "val", source, 0)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", [None, "{", "é".encode("latin1")])
def test_a_file_that_cannot_be_read_is_named(tmp_path, text):
    source = tmp_path / "source.json"
    if text is not None:
        source.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DatasetError, match=r"source\.json: cannot read this annotation file"):
        read_layouts(source)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"every": 0}, "every and offset are 0 and 0"), ({"every": 2, "offset": 2}, "every and offset are 2 and 2"),
        ({"offset": -1}, "every and offset"), ({"short_side": 47}, "short_side is 47"), ({"seed": -1}, "seed is -1"),
        ({"short_side": 1025}, "short_side is 1025"), ({"workers": -1}, "workers is -1"),
    ],
)  # fmt: skip
def test_invalid_arguments_are_named(annotated, tmp_path, arguments, named):
    with pytest.raises(ValueError, match=named):
        write_layouts(tmp_path / "out", "val", annotated, **{"seed": 0} | arguments)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def command(monkeypatch, capsys):
    path = Path(__file__).parents[2] / "tools" / "make_synthetic.py"
    spec = importlib.util.spec_from_file_location("make_synthetic", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["make_synthetic.py", *map(str, arguments)])
        try:
            module.main()
        finally:
            printed = capsys.readouterr()
            run.err = printed.err
        return printed.out

    return run


def test_the_command_writes_layouts_and_a_sheet(annotated, tmp_path, command):
    share = ("--layouts", annotated, "--every", 4, "--offset", 1, "--short-side", 48, "--split", "test")
    said = command("--out", tmp_path, "--sheet", tmp_path / "sheet.png", *share, "--seed", 2)
    path = tmp_path / "json" / "synthetic_test.json"
    assert str(path) in said
    assert "2 scenes on" in said
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    assert write_layouts(tmp_path, "test", annotated, 2, 48, 4, 1) == path


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--every", 2), "--every: it needs --layouts FILE"),
        (("--layouts", "x.json", "--count", 5, "--size", "96x96"), "--count, --size: the layouts' images decide it"),
    ],
)
def test_options_that_have_no_effect_are_refused(command, options, text, tmp_path):
    with pytest.raises(SystemExit):
        command("--out", tmp_path / "out", *options)
    assert text in command.err
    assert not (tmp_path / "out").exists()
