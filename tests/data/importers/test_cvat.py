"""CVAT for images: labels, subsets, images' places, and what is malformed."""

from pathlib import Path

import pytest
from other_formats import JOINTS, ONE, Person, cvat_labels, cvat_skeleton, cvat_xml, draw

from coupled_embedding.data.coco import load_records
from coupled_embedding.data.schema import load_schema

SKELETON = cvat_skeleton(Person(ONE))


def image(content: str, name: str = "a.png", **changes: str) -> str:
    attributes = {"id": "7", "name": name, "width": "64", "height": "48"} | changes
    return (
        f"<image {' '.join(f'{key}={chr(34)}{value}{chr(34)}' for key, value in attributes.items())}>{content}</image>"
    )


@pytest.fixture
def write(tmp_path: Path):
    """write(images, ...): write annotations.xml; images lie in frames/."""
    draw(tmp_path / "frames/a.png", (64, 48))
    draw(tmp_path / "frames/deep/b.png", (64, 48))

    def text(images: str, **more: str) -> Path:
        (tmp_path / "annotations.xml").write_text(cvat_xml(images, **more))
        return tmp_path / "annotations.xml"

    return text


@pytest.mark.parametrize(("subset", "split"), [("", "all"), ("Train", "train"), ("Validation", "val")])
def test_a_task_s_subset_is_its_split(write, tmp_path, convert, subset, split) -> None:
    path = write(image(SKELETON) + image("", "deep/b.png"), subset=subset)
    assert convert(path, "--out", tmp_path / "out", "--name", "mine", "--images", tmp_path / "frames") == 0
    schema = load_schema(tmp_path / "out/mine.yaml")
    first, second = load_records(schema, split)
    assert first.keypoints[0].tolist() == [list(joint) for joint in ONE]
    assert second.path == tmp_path / "frames/deep/b.png"
    assert len(second.keypoints) == 0


def test_of_several_skeletons_one_is_chosen_and_other_shapes_are_ignored(
    write, tmp_path, convert, refused, capsys
) -> None:
    other = cvat_skeleton(Person(ONE), "dog")
    box = '<box label="ball" occluded="0" xtl="1" ytl="1" xbr="9" ybr="9" z_order="0"></box>'
    labels = cvat_labels() + cvat_labels("dog").replace("tail", "snout")
    path = write(image(SKELETON + other.replace("tail", "snout") + box), labels=labels)
    arguments = (path, "--out", tmp_path / "out", "--name", "mine", "--images", tmp_path / "frames")
    assert "several classes have joints: person (0), dog (1)" in refused(*arguments)
    assert "the skeletons person, dog have different joints" in refused(*arguments, "--class", "person", "dog")
    assert convert(*arguments, "--class", "person") == 0
    assert "1 skeletons of other classes left out" in capsys.readouterr().out
    (record,) = load_records(load_schema(tmp_path / "out/mine.yaml"), "all")
    assert len(record.keypoints) == 1


def test_a_joint_that_is_not_there_is_not_labelled_and_drawings_may_be_missing(write, tmp_path, convert) -> None:
    first = '<points label="tail" outside="0" occluded="1" points="3.00,4.50"></points>'
    labels = cvat_labels().replace("circle", "ellipse")
    path = write(image(f'<skeleton label="person">{first}</skeleton>'), labels=labels)
    assert convert(path, "--out", tmp_path / "out", "--name", "mine", "--images", tmp_path / "frames") == 0
    schema = load_schema(tmp_path / "out/mine.yaml")
    (record,) = load_records(schema, "all")
    assert record.keypoints[0].tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 0], [3, 4.5, 1]]
    assert schema.skeleton == ()


NAMED = "<image id='7' name='a.png'>: skeleton 1 ('person'): "


@pytest.mark.parametrize(
    ("images", "error"),
    [
        (image(SKELETON.replace('"nose"', '"head"')), f"{NAMED}'head' is none of the skeleton's joints (nose, "),
        (image(SKELETON.replace('"nose"', '"tail"')), f"{NAMED}'tail' is there twice"),
        (image(SKELETON.replace("10.25,20.50", "1,2;3,4")), f"{NAMED}'nose': expected points=\"x,y\", got '1,2;3,4'"),
        (image(SKELETON.replace("10.25", "inf")), f"{NAMED}'nose': expected a number within ±100000, got 'inf'"),
        (image(SKELETON.replace('occluded="0"', 'occluded="no"')), "occluded must be 0 or 1, got 'no'"),
        (image(SKELETON, width="0"), "name='a.png'>: width: expected a whole number of pixels from 1, got '0'"),
        (image(SKELETON, height="4.5"), "height: expected a whole number of pixels"),
        (image(SKELETON, "c.png"), "<image id='7' name='c.png'>: no image 'c.png' in "),
        (image(SKELETON, "../a.png"), "the image's name '../a.png' must be a path inside the images' folder"),
        ("", "no <image> elements; export the task as 'CVAT for images 1.1'"),
        ('<track id="0" label="person"></track>', "holds a video's tracks, no images' annotations"),
        ("<image>", "cannot read this XML file (mismatched tag: line"),
        (image(""), "none of 0 people has a labelled joint"),
    ],
)  # fmt: skip
def test_a_malformed_element_is_named(write, tmp_path, refused, images, error) -> None:
    path = write(images)
    text = refused(path, "--out", tmp_path / "out", "--images", tmp_path / "frames")
    assert error in text
    assert str(path) in text
    assert not (tmp_path / "out").exists()


def test_without_skeletons_or_with_entities_it_is_refused(write, tmp_path, refused) -> None:
    path = write(image(""), labels="<label><name>nose</name><type>points</type></label>")
    assert "no skeleton labels: the joints must be points of a skeleton" in refused(path, "--out", tmp_path / "out")
    path.write_text('<!DOCTYPE a [<!ENTITY b "c">]><annotations>&b;</annotations>')
    assert "declares a document type or entities" in refused(path, "--out", tmp_path / "out")
    path.write_text("<dataset></dataset>")
    assert "holds a <dataset>" in refused(path, "--out", tmp_path / "out")
    assert "--joints: " in refused(path, "--out", tmp_path / "out", "--joints", *JOINTS)
