"""The policy for broken input, and its log."""

import json
import pickle

import pytest

from coupled_embedding.config import load_config
from coupled_embedding.data.io.data_errors import LOG, SHOWN, BadInput, BadInputError, Problem, build_bad_input
from coupled_embedding.utils.errors import ConfigError

pytestmark = pytest.mark.bad_input


def problems(count, first=0):
    return [Problem(f"{number}.jpg", "is broken", image_id=number) for number in range(first, first + count)]


@pytest.mark.parametrize(
    ("policy", "training", "tolerant"),
    [
        ("auto", True, True),
        ("auto", False, False),
        ("strict", True, False),
        ("strict", False, False),
        ("tolerant", True, True),
        ("tolerant", False, True),
    ],
)
def test_auto_is_tolerant_in_training_and_strict_in_testing(policy, training, tolerant):
    cfg = load_config(None, ["DATASET.BAD_INPUT", policy])
    assert build_bad_input(cfg, training).tolerant is tolerant


def test_another_policy_is_refused():
    with pytest.raises(ConfigError, match=r"DATASET\.BAD_INPUT: 'lenient' is impossible; allowed: .*tolerant"):
        load_config(None, ["DATASET.BAD_INPUT", "lenient"])


def test_strict_raises_with_file_reason_and_remedy():
    with pytest.raises(
        BadInputError, match=r"^0\.jpg: is broken \(image 0; DATASET\.BAD_INPUT tolerant would"
    ) as raised:
        BadInput().meet(problems(1)[0])
    assert raised.value.problem.image_id == 0
    # errors cross from loader processes
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.problem) == (str(raised.value), raised.value.problem)


def test_tolerant_remembers_each_problem_once_in_order():
    bad_input = BadInput(tolerant=True)
    for problem in problems(3) * 2:
        bad_input.meet(problem)
    assert bad_input.problems == problems(3)
    bad_input.remember(problems(2, first=2))
    assert bad_input.problems == problems(4)
    assert bad_input.unreadable == {0, 1, 2, 3}


def test_a_report_tells_what_is_new_and_writes_everything(tmp_path):
    bad_input = BadInput(tolerant=True)
    first = bad_input.report("photos", problems(SHOWN + 2), tmp_path / "run").splitlines()
    assert first[0] == f"photos: {SHOWN + 2}"
    assert first[1:-1] == [f"  {number}.jpg: is broken" for number in range(SHOWN)]
    assert first[-1].startswith(f"  and 2 more in {tmp_path / 'run' / LOG};")
    second = bad_input.report("photos", problems(2, first=SHOWN + 1), tmp_path / "run").splitlines()
    assert second[:2] == ["photos: 2, 1 of them new", f"  {SHOWN + 2}.jpg: is broken"]
    log = json.loads((tmp_path / "run" / LOG).read_text())
    assert log["count"] == len(log["problems"]) == SHOWN + 3
    assert log["problems"][-1] == {
        "file": f"{SHOWN + 2}.jpg",
        "text": "is broken",
        "field": "photo",
        "image_id": SHOWN + 2,
        "annotation_id": None,
    }


def test_what_was_met_before_is_still_to_be_told():
    bad_input = BadInput(tolerant=True)
    bad_input.meet(problems(1)[0])
    assert bad_input.report("photos", bad_input.problems).splitlines() == ["photos: 1", "  0.jpg: is broken"]


def test_nothing_wrong_is_not_reported(tmp_path):
    assert BadInput(tolerant=True).report("photos", [], tmp_path) == ""
    assert list(tmp_path.iterdir()) == []


def test_a_restarted_run_keeps_its_log(tmp_path):
    for part in (problems(2), problems(2, first=1)):
        BadInput(tolerant=True).report("photos", part, tmp_path)
    log = json.loads((tmp_path / LOG).read_text())
    assert [problem["image_id"] for problem in log["problems"]] == [0, 1, 2]


def test_a_log_of_a_whole_broken_data_set_goes_on(tmp_path):
    many = 50_000
    BadInput(tolerant=True).report("photos", problems(many), tmp_path)
    BadInput(tolerant=True).report("photos", problems(many, first=10), tmp_path)
    log = json.loads((tmp_path / LOG).read_text())
    assert [problem["image_id"] for problem in log["problems"]] == list(range(many + 10))


def test_entries_that_others_left_in_the_log_stay(tmp_path):
    (tmp_path / LOG).write_text('{"problems": [[], {"text": ["no text"]}, 3]}')
    BadInput(tolerant=True).report("photos", problems(1), tmp_path)
    log = json.loads((tmp_path / LOG).read_text())
    assert log["problems"][:3] == [[], {"text": ["no text"]}, 3]
    assert log["count"] == 4


@pytest.mark.parametrize("earlier", ["{", "[]", '{"problems": 3}'])
def test_a_log_that_is_none_is_replaced(tmp_path, earlier):
    (tmp_path / LOG).write_text(earlier)
    BadInput(tolerant=True).report("photos", problems(1), tmp_path)
    assert json.loads((tmp_path / LOG).read_text())["count"] == 1


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    told = BadInput(tolerant=True).report("photos", problems(1), tmp_path / "file")
    assert "which could not be written" in told


def test_annotations_that_are_scored_are_read_strictly_and_their_photos_by_the_policy():
    scored = build_bad_input(load_config(None, ["DATASET.BAD_INPUT", "tolerant"]), training=False)
    scored.meet(problems(1)[0])
    with pytest.raises(BadInputError, match=r"annotations that are scored must be sound"):
        scored.meet(Problem("all.json", "annotation 3: is broken", "bbox"))
    assert scored.problems == problems(1)


def test_names_that_no_terminal_prints_are_told():
    assert str(Problem("\ud800.jpg", "is broken")) == "\\ud800.jpg: is broken"
