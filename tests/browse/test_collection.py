"""The figures of images: the same errors as the diagnosis counts, for results files and for networks."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from coupled_embedding.analysis.error_analysis import analyze_errors
from coupled_embedding.analysis.error_analysis.keypoint_errors import KINDS, find_errors
from coupled_embedding.browse.collection import Collection
from coupled_embedding.browse.predictions import FilePredictions, NetworkPredictions
from coupled_embedding.browse.selection import ERRORS, totals
from coupled_embedding.builders import assemble_eval_job, load_model
from coupled_embedding.config import override
from coupled_embedding.data.coco import load_records
from coupled_embedding.data.schema import load_schema
from coupled_embedding.engine.evaluate import EvalJob
from coupled_embedding.evaluation import load_ground_truth, read_results, write_results
from coupled_embedding.networks.model_file import DEFAULT_MODEL
from coupled_embedding.utils.errors import DatasetError, NonFiniteError


def predict_all(collection: Collection) -> Collection:
    while collection.predict_next():
        pass
    return collection


def sums(collection: Collection) -> dict[str, int]:
    return totals(collection.figures.values())["errors"]


def check_totals(found: Collection, job: EvalJob) -> dict[str, int]:
    """Compare a collection with the diagnosis of the same network and images; return the sums of the errors."""
    d, errors, matched = analyze_errors(job), sums(predict_all(found)), 0
    by_joint = {name: dict.fromkeys(KINDS, 0) for name in d.joints}
    for image_id in found.records:
        for person in found.describe_predictions(image_id):
            matched += person["verdict"] == "matched"
            for joint, kind in person.get("errors", {}).items():
                by_joint[joint][kind] += 1
    assert {name: list(counts.values()) for name, counts in by_joint.items()} == d.error_counts
    assert [errors[kind] for kind in KINDS] == np.sum(list(d.error_counts.values()), 0).tolist()
    assert errors["background"] == pytest.approx(d.all.background * d.all.images)
    assert errors["surplus"] == pytest.approx(d.all.surplus * d.all.images)
    assert errors["missed"] / (errors["missed"] + matched) == pytest.approx(d.all.shares["people missed"])
    return errors


def test_sums_over_the_images_are_the_totals_of_the_diagnosis(collection, job, network):
    errors = check_totals(collection(network), job)
    assert errors["missed"] > 10


@pytest.mark.photos
@pytest.mark.slow
def test_sums_over_real_images_are_the_totals_of_the_diagnosis(images_dir):
    schema = load_schema("datasets/coco.yaml")
    records = load_records(schema, "val2017", str(images_dir / "coco"))
    crowded = sorted(records, key=lambda record: -len(record.keypoints))[2:5]
    model = load_model(DEFAULT_MODEL)
    options = ["DATASET.ROOT", str(images_dir / "coco"), "DATASET.INPUT_SIZE", "256", "TEST.WORKERS", "0"]
    cfg = override(model.cfg, [*options, "DATASET.SCHEMA", "datasets/coco.yaml", "DATASET.MIX", "[]"])
    job = replace(assemble_eval_job(cfg, model.network, schema, "val2017", crowded), is_subset=True)
    truth = load_ground_truth(job.annotations, schema, [record.image_id for record in crowded])
    errors = check_totals(Collection(crowded, truth, schema, NetworkPredictions(job)), job)
    assert all(errors[name] for name in KINDS)


def test_results_in_a_file_have_the_errors_that_the_diagnosis_finds_in_them(known, results, truth, schema):
    errors = find_errors(truth, read_results(results, schema), schema).images.values()
    expected = dict(zip(KINDS, sum(image.counts().sum(0) for image in errors).tolist(), strict=True))
    for name in ("missed", "background", "surplus"):
        expected[name] = sum(len(getattr(image, name)) for image in errors)
    assert sums(known) == expected
    assert all(expected[name] for name in ERRORS if name != "miss")


def test_a_network_and_its_results_file_show_the_same(collection, network, truth, schema, tmp_path):
    found = predict_all(collection(network))
    entries = []
    for number, batch in enumerate(network.batches):
        poses = network.poses(number)
        entries += [
            {"image_id": i, "category_id": 1, "keypoints": pose.keypoints.ravel().tolist(), "score": float(pose.score)}
            for i in batch
            for pose in poses[i]
        ]
    write_results(tmp_path / "own.json", entries)
    read = predict_all(collection(FilePredictions(tmp_path / "own.json", truth, schema)))
    assert read.figures == found.figures
    for image_id in found.records:
        assert read.describe_predictions(image_id) == found.describe_predictions(image_id)


def oks(person, annotated, area, schema) -> float:
    """COCO's formula, joint by joint."""
    values = []
    for sigma, point, true in zip(schema.sigmas, person.values(), annotated.values(), strict=True):
        if true is not None:
            x, y = (point or [0, 0])[:2]
            values.append(math.exp(-((x - true[0]) ** 2 + (y - true[1]) ** 2) / (2 * area * (2 * sigma) ** 2)))
    return sum(values) / len(values)


def test_the_oks_of_people_and_their_mean(known, truth, schema):
    for image_id, figures in known.figures.items():
        annotated, predicted = known.describe(image_id)["truth"], known.describe_predictions(image_id)
        areas = [area for area, own in zip(truth.areas, truth.image_ids, strict=True) if own == image_id]
        found = {}
        for person in (one for one in predicted if one["verdict"] == "matched"):
            number = person["person"]
            expected = oks(person["keypoints"], annotated[number]["keypoints"], areas[number], schema)
            assert person["oks"] == pytest.approx(expected, abs=0.01)  # places are rounded
            found[number] = person["oks"]
        counted = [found.get(number, 0) for number, person in enumerate(annotated) if person["counts"]]
        assert figures.oks == pytest.approx(np.mean(counted), abs=1e-3)
        assert figures.errors["missed"] == counted.count(0)


def test_people_below_the_twentieth_are_neither_kept_nor_counted(collection, truth, schema, tmp_path):
    image_id = next(iter(truth.images))
    joints = np.tile([2.0, 3.0, 0.5], schema.num_joints).tolist()
    entries = [{"image_id": image_id, "category_id": 1, "keypoints": joints, "score": 1 / n} for n in range(1, 41)]
    (tmp_path / "many.json").write_text(json.dumps(entries[::-1]))
    found = predict_all(collection(FilePredictions(tmp_path / "many.json", truth, schema)))
    assert found.figures[image_id].errors["background"] == 20
    scores = [person["score"] for person in found.describe_predictions(image_id)]
    assert scores == [round(1 / n, 4) for n in range(1, 21)]


def test_an_image_that_is_asked_for_comes_first_and_once(collection, network, monkeypatch):
    asked, poses = [], network.poses
    monkeypatch.setattr(network, "poses", lambda number: asked.append(number) or poses(number))
    network.batches = [[i] for batch in network.batches for i in batch]
    monkeypatch.setattr(network, "poses", lambda number: asked.append(number) or {network.batches[number][0]: []})
    found = collection(network)
    last = network.batches[-1][0]
    found.predict(last)
    found.predict(last)
    assert asked == [len(network.batches) - 1]
    assert [figures.predicted for figures in found.figures.values()].count(True) == 1
    predict_all(found)
    assert sorted(asked) == list(range(len(network.batches)))


def test_a_split_without_annotations_shows_people_without_errors(tiny_crowd, schema, tmp_path, collection, results):
    content = json.loads((tiny_crowd / "json/synthetic_test.json").read_text())
    del content["annotations"]
    (tmp_path / "hidden.json").write_text(json.dumps(content))
    truth = load_ground_truth(tmp_path / "hidden.json", schema)
    records = [replace(record, keypoints=record.keypoints[:0]) for record in collection().records.values()]
    found = predict_all(Collection(records, truth, schema, FilePredictions(results, truth, schema)))
    for image_id, figures in found.figures.items():
        assert (figures.oks, figures.errors, figures.predicted) == (None, {}, True)
        assert {person["verdict"] for person in found.describe_predictions(image_id)} == {"none"}
        assert found.describe(image_id)["truth"] == []


# ---- errors


def test_truth_alone_has_no_predictions(collection):
    found = collection()
    assert not found.predict_next()
    with pytest.raises(DatasetError, match="give weights or results"):
        found.predict(next(iter(found.records)))


def test_an_empty_data_set_is_an_error(truth, schema):
    with pytest.raises(DatasetError, match=r"synthetic_test\.json: no images to show"):
        Collection([], truth, schema)


@pytest.mark.parametrize(
    ("change", "text"),
    [({"image_id": 7}, "no image of id 7"), ({"keypoints": [1, 2, 1]}, "expected 42 numbers, got 3")],
)
def test_results_of_something_else_are_errors(results, truth, schema, change, text):
    entries = json.loads(results.read_text())
    entries[1] |= change
    results.write_text(json.dumps(entries))
    with pytest.raises(DatasetError, match=rf"results\.json: entry 1: .*{text}"):
        FilePredictions(results, truth, schema)


@pytest.mark.bad_input
def test_an_image_that_cannot_be_read_or_is_too_long_has_a_problem_and_the_others_people(job, truth, schema, tmp_path):
    (tmp_path / "bad.jpg").write_text("no image")
    records = list(job.records)
    records[1] = replace(records[1], path=tmp_path / "bad.jpg")
    records[2] = replace(records[2], width=96 * 96)
    found = predict_all(Collection(records, truth, schema, NetworkPredictions(replace(job, records=records))))
    problems = [found.figures[record.image_id].problem for record in records]
    assert problems[0] == problems[3] == problems[4] == ""
    assert "not an image that OpenCV can read" in problems[1]
    assert "times as long as wide" in problems[2]
    with pytest.raises(DatasetError, match="not an image"):
        found.predict(records[1].image_id)


@pytest.mark.parametrize(
    ("error", "text"),
    [(NonFiniteError("NaN in the maps"), "NaN in the maps"), (ZeroDivisionError(), "the terminal says why")],
)
def test_a_batch_that_fails_is_a_problem_of_its_images_alone(collection, network, monkeypatch, error, text):
    def poses(number):
        if number == 0:
            raise error
        return dict.fromkeys(network.batches[number], ())

    ids = [i for batch in network.batches for i in batch]
    network.batches = [ids[:2], ids[2:]]
    monkeypatch.setattr(network, "poses", poses)
    found = predict_all(collection(network))
    assert all(text in found.figures[i].problem for i in ids[:2])
    assert not any(found.figures[i].problem for i in ids[2:])
