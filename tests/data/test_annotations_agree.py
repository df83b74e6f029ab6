"""Reader, scorer and checker agree on any annotation file: who is there, who counts, and that it scores 100 itself."""

import json
import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coupled_embedding.analysis.dataset_validation import validate_split
from coupled_embedding.analysis.upper_bound import annotated_poses
from coupled_embedding.data.audit import warnings
from coupled_embedding.data.coco import load_records
from coupled_embedding.data.schema import schema_from_dict
from coupled_embedding.evaluation import evaluate_keypoints, load_ground_truth, poses_to_results
from coupled_embedding.utils.errors import DatasetError

JOINTS = ["nose", "left_paw", "right_paw"]
# what exports write where nothing was measured, or by mistake
ODD = {
    "area": st.sampled_from([0, 0.0, 1, -3, 55.5, 1e13, None]),
    "iscrowd": st.sampled_from([0, 1, False, True, None]),
    "num_keypoints": st.integers(0, 3),
    "category_id": st.sampled_from([1, 2, 3, 1.0, 2.0]),
    "segmentation": st.sampled_from([[], None, [[1, 1, 9, 1, 9, 9]], [[3, 3]]]),
    "image_id": st.sampled_from([1, 2, 1.0, 2.0]),
}
BROKEN = {
    "area": st.sampled_from(["5", math.inf]),
    "iscrowd": st.sampled_from([2, "yes"]),
    "num_keypoints": st.sampled_from([-1, "2", 1.5]),
    "category_id": st.sampled_from([9, "1", 1.5, [1]]),
    "image_id": st.sampled_from([7, "1", None, 1.25]),
    "keypoints": st.sampled_from([[1, 2], [1, 2, 5] * 3, ["a"] * 9]),
    "bbox": st.sampled_from([None, [1, 2], [1, 2, "3", 4], [math.nan] * 4]),
}


@st.composite
def annotations(draw, oddities):
    entries = []
    for number in range(draw(st.integers(0, 6))):
        x = 40.0 * number
        labels = draw(st.lists(st.integers(0, 2), min_size=3, max_size=3))
        places = [(x + draw(st.integers(0, 30)), draw(st.integers(0, 90))) for _ in labels]
        joints = [v for (px, py), label in zip(places, labels) for v in ((px, py, label) if label else (0, 0, 0))]
        box = draw(st.sampled_from([[x, 1, 30, 95], [0, 0, 0, 0], [x, 1, 30, 0]]))
        entry = {"id": number + 1, "image_id": 1, "category_id": 1, "keypoints": joints, "bbox": box}
        for field in draw(st.sets(st.sampled_from(sorted(oddities)), max_size=2)):
            entry[field] = draw(oddities[field])
        entries.append(entry)
    return entries


CATEGORIES = st.sampled_from(
    [
        None,
        [{"id": 1, "name": "cat"}],
        [{"id": n, "name": name, "keypoints": JOINTS} for n, name in ((1, "cat"), (2, "dog"), (3, "cow"))],
        [{"id": 3, "name": "car"}, {"id": 1, "name": "cat", "keypoints": JOINTS}, {"id": 2.0, "name": "ball"}],
        [{"id": n, "name": name} for n, name in ((1, "car"), (2, "person"), (3, "bus"))],
    ]
)


def write(folder, entries, categories):
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 300, "height": 100} for n in (1, 2)]
    content = {"images": images, "annotations": entries} | ({"categories": categories} if categories else {})
    (folder / "all.json").write_text(json.dumps(content))
    return schema_from_dict(
        {"name": "animals", "joints": JOINTS, "flip_pairs": [["left_paw", "right_paw"]], "skeleton": [],
         "sigmas": [0.1] * 3, "root": str(folder), "splits": {"all": {"annotations": "all.json", "images": "."}}},
        "animals.yaml",
    )  # fmt: skip


def refused(read):
    try:
        read()
    except DatasetError as error:
        return str(error)
    return ""


@settings(max_examples=120, deadline=None)
@given(entries=annotations(ODD), categories=CATEGORIES, evaluator=st.sampled_from(["coco", "crowdpose"]))
def test_odd_files_count_alike_and_score_a_hundred_against_themselves(entries, categories, evaluator):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        schema = write(folder, entries, categories)
        said = refused(lambda: load_records(schema, "all"))
        assert bool(said) == bool(refused(lambda: load_ground_truth(folder / "all.json", schema)))
        if said:
            assert "all.json" in said
            return
        records, truth = load_records(schema, "all"), load_ground_truth(folder / "all.json", schema)
        counted = validate_split(schema, "all", images=False).statistics
        labelled = sum(int((r.keypoints[..., 2] > 0).any(1).sum()) for r in records)
        assert (counted.people, counted.labelled_people) == (sum(len(r.keypoints) for r in records), labelled)
        assert sum(r.annotations for r in records) == len(truth.image_ids)
        to_find = sum(
            int(bool((k[:, 2] > 0).any()) and not crowd and count > 0)
            for r in records
            for k, crowd, count in zip(r.keypoints, r.crowds, r.num_keypoints, strict=True)
        )
        assert ((truth.crowds == 0) & (truth.num_keypoints > 0)).sum() == to_find
        found = poses_to_results({r.image_id: annotated_poses(r) for r in records}, truth.categories.result)
        scores = evaluate_keypoints(folder / "all.json", found, schema)
        if to_find:
            assert scores.main == pytest.approx(1)
        else:
            assert math.isnan(scores.main)
            assert scores.reasons["AP"]
        # whoever has joints and does not count is spoken of
        if labelled > to_find:
            assert warnings(records, schema)


@settings(max_examples=120, deadline=None)
@given(entries=annotations(BROKEN), categories=CATEGORIES)
def test_broken_files_are_refused_by_reader_and_scorer_alike(entries, categories):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        schema = write(folder, entries, categories)
        reader = refused(lambda: load_records(schema, "all"))
        scorer = refused(lambda: load_ground_truth(folder / "all.json", schema))
        assert bool(reader) == bool(scorer), (reader, scorer)
        if reader:
            assert "all.json" in reader
            assert "all.json" in scorer
            assert validate_split(schema, "all", images=False).warnings
