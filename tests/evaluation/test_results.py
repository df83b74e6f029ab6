"""Results files: layout, names, atomic writing, errors."""

import json

import numpy as np
import pytest

from coupled_embedding.data.outputs import Pose
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.evaluation import poses_to_results, read_results, results_file_name, write_results
from coupled_embedding.utils.errors import DatasetError, UserError


def schema(name="pair"):
    return KeypointSchema(name, ("head", "foot"), (), (), (0.05, 0.1), (0, 1), ((0, 0, 0),) * 2)


def pose(score, x=1.5):
    return Pose(np.array([[x, 2, 0.9], [3, 4, 0.25]]), score)


ENTRY = {"image_id": 7, "category_id": 1, "keypoints": [1.5, 2.0, 0.9, 3.0, 4.0, 0.25], "score": 0.5}


class TestPosesToResults:
    def test_layout_of_plain_numbers(self):
        results = poses_to_results({np.int64(7): [Pose(pose(0).keypoints, np.float32(0.5))]})
        assert results == [ENTRY]
        assert json.loads(json.dumps(results)) == results

    def test_the_best_are_kept(self):
        results = poses_to_results({1: [pose(0.1), pose(0.9), pose(0.5)]}, category_id=3, max_detections=2)
        assert [(r["category_id"], r["score"]) for r in results] == [(3, 0.9), (3, 0.5)]

    def test_all_are_kept_in_order_by_default(self):
        poses = {5: [pose(0.1), pose(0.9)], 2: [], 1: [pose(0.3)]}
        assert [(r["image_id"], r["score"]) for r in poses_to_results(poses)] == [(5, 0.1), (5, 0.9), (1, 0.3)]

    @pytest.mark.parametrize("bad", [pose(float("nan")), pose(0.5, x=float("inf"))])
    def test_numbers_must_be_finite(self, bad):
        with pytest.raises(ValueError, match="image 7"):
            poses_to_results({7: [bad]})


class TestFiles:
    def test_what_was_written_is_read(self, tmp_path):
        path = tmp_path / "new" / "folder" / "results.json"
        write_results(path, [ENTRY, ENTRY])
        assert read_results(path, schema()) == [ENTRY, ENTRY]
        write_results(path, [])
        assert read_results(path, schema()) == []
        assert [p.name for p in path.parent.iterdir()] == ["results.json"]

    def test_a_failed_write_keeps_the_old_file(self, tmp_path, monkeypatch):
        path = tmp_path / "results.json"
        write_results(path, [ENTRY])
        monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(UserError, match=r"results\.json.*disk full"):
            write_results(path, [])
        assert json.loads(path.read_text()) == [ENTRY]
        assert [p.name for p in tmp_path.iterdir()] == ["results.json"]

    def test_a_folder_that_is_a_file(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match="cannot write"):
            write_results(tmp_path / "file" / "results.json", [])

    def test_nan_is_not_written(self, tmp_path):
        with pytest.raises(ValueError, match="JSON"):
            write_results(tmp_path / "results.json", [{**ENTRY, "score": float("nan")}])
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"image_id": "7"}, "entry 1: image_id: expected a whole number"),
            ({"category_id": 1.5}, "entry 1: category_id: expected a whole number"),
            ({"image_id": 2**63}, "entry 1: image_id: expected a whole number of up to 64 bits"),
            ({"keypoints": [1, 2, 3]}, "entry 1: keypoints: expected 6 numbers, got 3"),
            ({"keypoints": None}, "entry 1: keypoints: expected 6 numbers, got no list"),
            ({"keypoints": [1, 2, 3, 4, 5, "6"]}, "entry 1: keypoints: expected 6 finite numbers"),
            ({"keypoints": [1, 2, 3, 4, 5, [6]]}, "entry 1: keypoints: expected 6"),
            ({"score": None}, "entry 1: score: expected 1 finite"),
            ({"score": float("nan")}, "entry 1: score: expected 1 finite"),
        ],
    )
    def test_a_wrong_field_is_named(self, tmp_path, change, message):
        path = tmp_path / "results.json"
        path.write_text(json.dumps([ENTRY, {**ENTRY, **change}]))
        with pytest.raises(DatasetError, match=message) as error:
            read_results(path, schema())
        assert str(path) in str(error.value)

    @pytest.mark.parametrize("key", list(ENTRY))
    def test_a_missing_field_is_named(self, tmp_path, key):
        path = tmp_path / "results.json"
        path.write_text(json.dumps([{k: v for k, v in ENTRY.items() if k != key}]))
        with pytest.raises(DatasetError, match=f"entry 0: '{key}' is missing"):
            read_results(path, schema())

    @pytest.mark.parametrize(
        ("text", "message"), [("{", "cannot read"), ("{}", "expected a list"), ("[3]", "entry 0: expected a person")]
    )
    def test_other_files(self, tmp_path, text, message):
        path = tmp_path / "results.json"
        path.write_text(text)
        with pytest.raises(DatasetError, match=message):
            read_results(path, schema())

    def test_no_file(self, tmp_path):
        with pytest.raises(DatasetError, match="no such results file"):
            read_results(tmp_path / "none.json", schema())


@pytest.mark.parametrize(
    ("name", "split", "model", "expected"),
    [
        ("coco", "test-dev2017", "ce_hrnet_w32", "person_keypoints_test-dev2017_ce_hrnet_w32_results.json"),
        ("coco", "val2017", "ce", "person_keypoints_val2017_ce_results.json"),
        ("crowdpose", "test", "ce", "keypoints_crowdpose_test_ce_results.json"),
        ("my set", "val", "../a b/c:d", "keypoints_my-set_val_a-b-c-d_results.json"),
        ("coco", "val2017", "", "person_keypoints_val2017_unnamed_results.json"),
    ],
)
def test_file_names(name, split, model, expected):
    assert results_file_name(schema(name), split, model) == expected
