"""Results for COCO's server: names, format, and that cutting and rounding change no score."""

import json
import zipfile

import numpy as np
import pytest

from coupled_embedding.data.schema import load_schema
from coupled_embedding.evaluation import check_submission, evaluate_keypoints, results_file_name, write_submission
from coupled_embedding.evaluation.submission import as_submission
from coupled_embedding.utils.errors import DatasetError

COCO = load_schema("datasets/coco.yaml")
JOINTS = COCO.num_joints


def entry(image_id=1, score=0.5, **changes):
    return {
        "image_id": image_id,
        "category_id": 1,
        "keypoints": [1.23456, 2.0, 0.987654] * JOINTS,
        "score": score,
    } | changes


def test_the_zip_holds_the_results_under_the_servers_name(tmp_path):
    path = tmp_path / "new" / results_file_name(COCO, "test-dev2017", "ce w48")
    made = write_submission(path, [entry(1), entry(2)], COCO, [1, 2, 3])
    assert made.name == "person_keypoints_test-dev2017_ce-w48_results.zip"
    assert sorted(p.name for p in made.parent.iterdir()) == [f"{made.stem}.json", made.name]
    with zipfile.ZipFile(made) as archive:
        assert archive.namelist() == [f"{made.stem}.json"]
        sent = json.loads(archive.read(archive.namelist()[0]))
    assert sent == json.loads(path.read_text())
    assert sent[0] == entry(1, keypoints=[1.23, 2.0, 0.99] * JOINTS)


def test_the_twenty_best_of_an_image_are_sent():
    scores = [*np.linspace(0.1, 0.9, 25), 0.9]
    sent = as_submission([entry(7, s) for s in scores] + [entry(8, 0.01)])
    assert [e["score"] for e in sent if e["image_id"] == 7] == sorted(scores, reverse=True)[:20]
    assert [e["score"] for e in sent if e["image_id"] == 8] == [0.01]


def test_cutting_and_rounding_leave_the_scores(tmp_path):
    rng = np.random.default_rng(0)
    annotations, results = [], []
    for image_id in range(1, 6):
        for person in range(25):
            keypoints = np.c_[rng.uniform(0, 600, (JOINTS, 2)), np.full(JOINTS, 2.0)]
            box = [*keypoints[:, :2].min(0), *np.ptp(keypoints[:, :2], 0)]
            identity = 100 * image_id + person
            annotations.append(
                {"id": identity, "image_id": image_id, "category_id": 1, "iscrowd": 0, "bbox": [float(v) for v in box]}
                | {"keypoints": keypoints.ravel().tolist(), "num_keypoints": JOINTS, "area": 90_000.0}
            )
            moved = keypoints + np.c_[rng.normal(0, 12, (JOINTS, 2)), np.zeros(JOINTS)]
            results.append(entry(image_id, float(rng.uniform()), keypoints=moved.ravel().tolist()))
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 640} for i in range(1, 6)]
    path = tmp_path / "truth.json"
    category = {"id": 1, "name": "person", "keypoints": list(COCO.joints)}
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    whole, sent = (evaluate_keypoints(path, r, COCO) for r in (results, as_submission(results)))
    assert 0.05 < whole.main < 0.95
    assert sent.values == pytest.approx(whole.values, abs=2e-3, nan_ok=True)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([], "no detections in 2 images"),
        ([entry(9)], "the split has no image 9"),
        ([entry(category_id=2)], "category_id is 2, a person is 1"),
        ([entry(bbox=[0, 0, 1, 1])], "the fields bbox are not the server's"),
        ([{k: v for k, v in entry().items() if k != "score"}], "'score' is missing"),
        ([entry(image_id="1")], "image_id: expected a whole number"),
        ([entry(keypoints=[1.0] * 42)], "keypoints"),
        ([entry(keypoints=[float("nan")] * 3 * JOINTS)], "keypoints"),
        ([entry(score=float("inf"))], "score"),
        ([entry()] * 21, "image 1 has more than 20 poses"),
    ],
)
def test_what_the_server_does_not_take_is_an_error(results, message):
    with pytest.raises(DatasetError, match=r"^sent\.json") as caught:
        check_submission(results, COCO, [1, 2], "sent.json")
    assert message in str(caught.value)
