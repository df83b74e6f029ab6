"""The policy for invalid data, and its log."""

import json
import pickle

import pytest

from coupled_embedding.builders import build_policy
from coupled_embedding.config import load_config
from coupled_embedding.data.io.data_errors import LISTED, LOG, DataError, DataErrorPolicy, DataIssue
from coupled_embedding.utils.errors import ConfigError

pytestmark = pytest.mark.bad_input


def issues(count, first=0):
    return [DataIssue(f"{number}.jpg", "is broken", image_id=number) for number in range(first, first + count)]


@pytest.mark.parametrize(
    ("choice", "training", "skip"),
    [
        ("auto", True, True),
        ("auto", False, False),
        ("raise", True, False),
        ("raise", False, False),
        ("skip", True, True),
        ("skip", False, True),
    ],
)
def test_auto_skips_in_training_and_raises_in_testing(choice, training, skip):
    cfg = load_config(None, ["DATASET.ON_INVALID", choice])
    assert build_policy(cfg, training).skip is skip


def test_another_policy_is_refused():
    with pytest.raises(ConfigError, match=r"DATASET\.ON_INVALID: 'lenient' is invalid; expected .*skip"):
        load_config(None, ["DATASET.ON_INVALID", "lenient"])


def test_invalid_data_raises_with_file_reason_and_remedy():
    with pytest.raises(DataError, match=r"^0\.jpg: is broken \(image 0; DATASET\.ON_INVALID skip would") as raised:
        DataErrorPolicy().handle(issues(1)[0])
    assert raised.value.issue.image_id == 0
    # errors cross from loader processes
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.issue) == (str(raised.value), raised.value.issue)


def test_tolerant_remembers_each_problem_once_in_order():
    policy = DataErrorPolicy(skip=True)
    for issue in issues(3) * 2:
        policy.handle(issue)
    assert policy.issues == issues(3)
    policy.add(issues(2, first=2))
    assert policy.issues == issues(4)
    assert policy.unreadable == {0, 1, 2, 3}


def test_a_report_lists_what_is_new_and_writes_everything(tmp_path):
    policy = DataErrorPolicy(skip=True)
    first = policy.report("images", issues(LISTED + 2), tmp_path / "run").splitlines()
    assert first[0] == f"images: {LISTED + 2}"
    assert first[1:-1] == [f"  {number}.jpg: is broken" for number in range(LISTED)]
    assert first[-1].startswith(f"  and 2 more in {tmp_path / 'run' / LOG};")
    second = policy.report("images", issues(2, first=LISTED + 1), tmp_path / "run").splitlines()
    assert second[:2] == ["images: 2, 1 of them new", f"  {LISTED + 2}.jpg: is broken"]
    log = json.loads((tmp_path / "run" / LOG).read_text())
    assert log["count"] == len(log["issues"]) == LISTED + 3
    assert log["issues"][-1] == {
        "file": f"{LISTED + 2}.jpg",
        "text": "is broken",
        "field": "image",
        "image_id": LISTED + 2,
        "annotation_id": None,
    }


def test_issues_added_before_are_still_reported():
    policy = DataErrorPolicy(skip=True)
    policy.handle(issues(1)[0])
    assert policy.report("images", policy.issues).splitlines() == ["images: 1", "  0.jpg: is broken"]


def test_nothing_wrong_is_not_reported(tmp_path):
    assert DataErrorPolicy(skip=True).report("images", [], tmp_path) == ""
    assert list(tmp_path.iterdir()) == []


def test_a_restarted_run_keeps_its_log(tmp_path):
    for part in (issues(2), issues(2, first=1)):
        DataErrorPolicy(skip=True).report("images", part, tmp_path)
    log = json.loads((tmp_path / LOG).read_text())
    assert [issue["image_id"] for issue in log["issues"]] == [0, 1, 2]


def test_a_log_of_a_whole_broken_data_set_goes_on(tmp_path):
    many = 50_000
    DataErrorPolicy(skip=True).report("images", issues(many), tmp_path)
    DataErrorPolicy(skip=True).report("images", issues(many, first=10), tmp_path)
    log = json.loads((tmp_path / LOG).read_text())
    assert [issue["image_id"] for issue in log["issues"]] == list(range(many + 10))


def test_entries_that_others_left_in_the_log_stay(tmp_path):
    (tmp_path / LOG).write_text('{"issues": [[], {"text": ["no text"]}, 3]}')
    DataErrorPolicy(skip=True).report("images", issues(1), tmp_path)
    log = json.loads((tmp_path / LOG).read_text())
    assert log["issues"][:3] == [[], {"text": ["no text"]}, 3]
    assert log["count"] == 4


@pytest.mark.parametrize("earlier", ["{", "[]", '{"issues": 3}'])
def test_a_log_that_is_none_is_replaced(tmp_path, earlier):
    (tmp_path / LOG).write_text(earlier)
    DataErrorPolicy(skip=True).report("images", issues(1), tmp_path)
    assert json.loads((tmp_path / LOG).read_text())["count"] == 1


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    text = DataErrorPolicy(skip=True).report("images", issues(1), tmp_path / "file")
    assert "which could not be written" in text


def test_annotations_that_are_scored_must_be_valid_and_their_images_follow_the_policy():
    scored = build_policy(load_config(None, ["DATASET.ON_INVALID", "skip"]), training=False)
    scored.handle(issues(1)[0])
    with pytest.raises(DataError, match=r"annotations that are scored must be valid"):
        scored.handle(DataIssue("all.json", "annotation 3: is broken", "bbox"))
    assert scored.issues == issues(1)


def test_names_that_no_terminal_prints_are_escaped():
    assert str(DataIssue("\ud800.jpg", "is broken")) == "\\ud800.jpg: is broken"
