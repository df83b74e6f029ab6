"""`evaluate_keypoints` with perfect, missing, empty and wrong data, and against the recorded scores."""

import builtins
import copy
import json
import math
import sys
import types

import numpy as np
import pytest
from pycocotools import cocoeval
from pycocotools.coco import COCO

from coupled_embedding.data.evaluators import ALL_AREAS, EVALUATORS, Evaluator
from coupled_embedding.data.schema import KeypointSchema, load_schema
from coupled_embedding.evaluation import Scores, evaluate_keypoints, read_results
from coupled_embedding.utils.errors import DatasetError, UserError

COCO_NAMES = ["AP", "AP50", "AP75", "AP_M", "AP_L", "AR", "AR50", "AR75", "AR_M", "AR_L"]
CROWDPOSE_NAMES = ["AP", "AP50", "AP75", "AR", "AR50", "AR75", "AP_easy", "AP_medium", "AP_hard"]


def schema(evaluator="coco"):
    return KeypointSchema("pair", ("head", "foot"), (), (), (0.05, 0.1), (0, 1), ((0, 0, 0),) * 2, evaluator)


def annotation(number, image_id, size=60.0, **fields):
    """A person with only the fields that nothing can replace."""
    x = 100.0 * number
    box = [x, 10.0, size, 2 * size]
    keypoints = [x, 20.0, 2, x + size / 2, 10 + size, 1]
    return {"id": number, "image_id": image_id, "category_id": 1, "bbox": box, "keypoints": keypoints} | fields


def result(truth, score=0.5):
    return {key: truth[key] for key in ("image_id", "category_id", "keypoints")} | {"score": score}


PEOPLE = [annotation(1, 1), annotation(2, 1, 200.0), annotation(3, 2), annotation(4, 3, 200.0)]
IMAGES = [{"id": 1, "crowdIndex": 0.1}, {"id": 2, "crowdIndex": 0.5}, {"id": 3, "crowdIndex": 0.9}, {"id": 4}]
RESULTS = [result(person) for person in PEOPLE]


@pytest.fixture
def write(tmp_path):
    def write_file(annotations=PEOPLE, images=IMAGES, **others):
        path = tmp_path / "annotations.json"
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
        path.write_text(json.dumps(content | others))
        return path

    return write_file


class TestScores:
    @pytest.mark.parametrize(("rules", "names"), [("coco", COCO_NAMES), ("crowdpose", CROWDPOSE_NAMES)])
    def test_perfect_detections_score_one(self, write, rules, names):
        scores = evaluate_keypoints(write(), RESULTS, schema(rules))
        assert list(scores.values) == names
        assert list(scores.values.values()) == pytest.approx([1] * len(names))
        assert scores.main == scores.values["AP"]

    @pytest.mark.parametrize("rules", ["coco", "crowdpose"])
    @pytest.mark.parametrize("backend", ["pycocotools", "fast"])
    def test_no_detections_score_zero_and_no_people_nothing(self, write, rules, backend):
        if backend == "fast":
            pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed")
        assert set(evaluate_keypoints(write(), [], schema(rules), backend=backend).values.values()) == {0}
        for found in ([], RESULTS):
            scores = evaluate_keypoints(write([]), found, schema(rules), backend=backend)
            assert all(math.isnan(value) for value in scores.values.values())

    def test_an_empty_choice_scores_nothing(self, write):
        assert math.isnan(evaluate_keypoints(write(), RESULTS, schema(), image_ids=[]).main)

    def test_only_chosen_images_count(self, write):
        found = [*RESULTS[:2], result({**PEOPLE[2], "keypoints": [900, 900, 1] * 2}, 0.9)]
        assert evaluate_keypoints(write(), found, schema(), image_ids=[1]).main == pytest.approx(1)
        assert evaluate_keypoints(write(), found, schema(), image_ids=[2, 4]).main == 0
        assert evaluate_keypoints(write(), found, schema()).main < 0.5

    def test_a_band_or_size_without_people_is_not_zero(self, write):
        scores = evaluate_keypoints(write(), RESULTS, schema("crowdpose"), image_ids=[1, 4])
        assert scores.to_dict() == pytest.approx(
            dict.fromkeys(CROWDPOSE_NAMES, 1.0) | {"AP_medium": None, "AP_hard": None}
        )
        assert evaluate_keypoints(write(), RESULTS, schema(), image_ids=[2]).to_dict()["AP_L"] is None

    def test_images_without_crowd_index_are_in_no_band(self, write):
        images = [{"id": image["id"]} for image in IMAGES]
        values = evaluate_keypoints(write(images=images), RESULTS, schema("crowdpose")).to_dict()
        assert values["AP"] == pytest.approx(1)
        assert [values[name] for name in CROWDPOSE_NAMES[6:]] == [None] * 3

    def test_twenty_people_count(self, write):
        strays = [result({**PEOPLE[0], "keypoints": [5000 + i, 5000, 1] * 2}, 0.9) for i in range(20)]
        assert evaluate_keypoints(write(), strays[1:] + RESULTS[:1], schema(), image_ids=[1]).values["AR"] == 0.5
        assert evaluate_keypoints(write(), strays + RESULTS[:1], schema(), image_ids=[1]).values["AR"] == 0

    def test_nothing_is_printed_or_changed(self, write, capfd):
        path, found = write(), copy.deepcopy(RESULTS)
        before = path.read_bytes()
        evaluate_keypoints(path, found, schema())
        evaluate_keypoints(path, found, schema("crowdpose"))
        assert capfd.readouterr() == ("", "")
        assert (path.read_bytes(), found) == (before, RESULTS)


class TestRulesOfOnesOwn:
    """A new entry of EVALUATORS is all that another benchmark takes."""

    @pytest.fixture
    def mine(self, monkeypatch):
        def rules(*scores, **fields):
            monkeypatch.setitem(EVALUATORS, "mine", Evaluator(scores, **fields))
            return schema("mine")

        return rules

    @pytest.mark.parametrize("backend", ["pycocotools", "fast"])
    def test_thresholds(self, write, mine, backend):
        # two joints that are a fifth of the person's scale off
        moved = [x + (0.2 * 60 * 2**0.5 if i % 3 == 0 else 0) for i, x in enumerate(PEOPLE[0]["keypoints"])]
        results = [{**RESULTS[0], "keypoints": moved, "score": 0.9}]
        only = write([{**PEOPLE[0], "area": 60.0 * 120}])
        oks = np.mean([math.exp(-(0.04 * 2 * 3600) / (2 * 7200 * (2 * sigma) ** 2)) for sigma in (0.05, 0.1)])
        assert 0.1 < oks < 0.5
        rules = mine("AP", "AP10", "AR50", thresholds=(0.1, 0.5))
        values = evaluate_keypoints(only, results, rules, backend=backend).values
        assert values == pytest.approx({"AP": 0.5, "AP10": 1, "AR50": 0})

    def test_every_threshold_of_coco_can_be_named(self, write, mine):
        names = [f"{kind}{percent}" for kind in ("AP", "AR") for percent in range(50, 100, 5)]
        assert evaluate_keypoints(write(), RESULTS, mine(*names)).values == pytest.approx(dict.fromkeys(names, 1))

    def test_reasons_name_the_rules_own_areas(self, write, mine):
        areas = (*ALL_AREAS, (1e3**2, 2e3**2), (2e3**2, 1e5**2))
        scores = evaluate_keypoints(write(), RESULTS, mine("AP", "AP_M", "AR_L", areas=areas))
        assert scores.reasons == {
            "AP_M": "no person that counts has an area from 1000² to 2000² pixels",
            "AR_L": "no person that counts has an area above 2000² pixels",
        }


class TestMissingFields:
    def test_area_is_that_of_the_box(self, write):
        # 0.53 · 60 · 120 is a medium area, the area of the file a large one
        alone = [annotation(1, 1)]
        assert evaluate_keypoints(write(alone), RESULTS[:1], schema()).to_dict()["AP_L"] is None
        alone = [annotation(1, 1, area=20000.0)]
        assert evaluate_keypoints(write(alone), RESULTS[:1], schema()).to_dict()["AP_M"] is None

    def test_crowdpose_takes_the_box_whatever_the_area(self, write):
        moved = [result({**PEOPLE[0], "keypoints": [104, 20, 1, 134, 70, 1]})]
        plain = evaluate_keypoints(write([PEOPLE[0]]), moved, schema("crowdpose"))
        tiny = evaluate_keypoints(write([annotation(1, 1, area=1.0)]), moved, schema("crowdpose"))
        assert plain.to_dict() == tiny.to_dict()
        assert plain.main > 0

    def test_people_without_labels_are_ignored_regions(self, write):
        for unlabelled in (
            annotation(2, 1, keypoints=[0] * 6),
            annotation(2, 1, keypoints=None),
            annotation(2, 1, num_keypoints=0),
            annotation(2, 1, iscrowd=True),
        ):
            found = [RESULTS[0], result(PEOPLE[1] | {"keypoints": [201, 20, 1, 230, 70, 1]}, 0.9)]
            assert evaluate_keypoints(write([PEOPLE[0], unlabelled]), found, schema()).main == pytest.approx(1)

    def test_ids_of_annotations_do_not_matter(self, write):
        for number in (0, 1):
            people = [person | {"id": number} for person in PEOPLE]
            assert evaluate_keypoints(write(people), RESULTS, schema()).main == pytest.approx(1)

    def test_a_box_among_the_results_does_not_change_areas(self, write):
        stray = result(PEOPLE[0] | {"keypoints": [900, 900, 1, 910, 910, 1]}, 0.9)
        alone = evaluate_keypoints(write(), [stray, *RESULTS], schema())
        boxed = evaluate_keypoints(write(), [{**stray, "bbox": [0, 0, 500, 500]}, *RESULTS], schema())
        assert boxed.values == alone.values
        assert alone.values["AP_L"] == pytest.approx(1)

    def test_other_categories_and_none_at_all(self, write):
        car = annotation(9, 1, category_id=2, keypoints=None)
        categories = [{"id": 1, "name": "person", "keypoints": ["head", "foot"]}, {"id": 2, "name": "car"}]
        path = write([*PEOPLE, car], categories=categories)
        assert evaluate_keypoints(path, RESULTS, schema()).main == pytest.approx(1)
        bare = [{key: value for key, value in person.items() if key != "category_id"} for person in PEOPLE]
        assert evaluate_keypoints(write(bare, categories=[]), RESULTS, schema()).main == pytest.approx(1)


class TestErrors:
    @pytest.mark.parametrize(
        ("file", "message"),
        [
            ({"annotations": [annotation(5, 1, bbox=None)]}, "annotation 5 of image 1: bbox: expected 4 numbers"),
            ({"annotations": [annotation(5, 1, keypoints=[1])]}, "annotation 5 of image 1: keypoints: expected 6"),
            ({"annotations": [annotation(5, 1, area="big")]}, "annotation 5 of image 1: area"),
            ({"annotations": [annotation(5, 1, iscrowd="no")]}, "annotation 5 of image 1: iscrowd"),
            ({"annotations": [annotation(5, 1, num_keypoints="no")]}, "annotation 5 of image 1: num_keypoints"),
            ({"annotations": [{"id": 5}]}, "no 'image_id'"),
            ({"annotations": [annotation(5, [1])]}, "no 'image_id' that is a whole number"),
            ({"annotations": None}, "'annotations' must be a list"),
            ({"images": [{"id": "a"}]}, "no 'id' that is a whole number"),
            ({"images": [{"id": 1, "crowdIndex": "high"}]}, "image 1: crowdIndex"),
            ({"categories": [{"id": 1, "name": "p", "keypoints": ["foot", "head"]}]}, "schema 'pair' expects"),
        ],
    )
    def test_a_wrong_annotation_file(self, write, file, message):
        path = write(**file)
        with pytest.raises(DatasetError, match=message) as error:
            evaluate_keypoints(path, [], schema())
        assert str(path) in str(error.value)

    def test_a_test_file_without_annotations(self, tmp_path):
        path = tmp_path / "image_info_test-dev2017.json"
        path.write_text(json.dumps({"images": IMAGES}))
        with pytest.raises(DatasetError, match="send it to the benchmark's server"):
            evaluate_keypoints(path, [], schema())

    def test_results_of_another_file(self, write):
        with pytest.raises(DatasetError, match=r"entry 1: .*no image of id 99"):
            evaluate_keypoints(write(), [RESULTS[0], {**RESULTS[0], "image_id": 99}], schema())
        with pytest.raises(DatasetError, match=r"entry 0: category_id 3 .*are: 1"):
            evaluate_keypoints(write(), [{**RESULTS[0], "category_id": 3}], schema())
        with pytest.raises(DatasetError, match="entry 0: keypoints: expected 6 numbers, got 3"):
            evaluate_keypoints(write(), [{**RESULTS[0], "keypoints": [1, 2, 3]}], schema())

    def test_an_unknown_image(self, write):
        with pytest.raises(DatasetError, match=r"no image has the id 99 \(of 1 not found\)"):
            evaluate_keypoints(write(), RESULTS, schema(), image_ids=[1, 99])

    def test_an_unknown_evaluator(self, write):
        with pytest.raises(UserError, match="'pair': unknown evaluator 'other'; there are coco, crowdpose"):
            evaluate_keypoints(write(), RESULTS, schema("other"))

    def test_backends(self, write, monkeypatch):
        with pytest.raises(UserError, match="there are pycocotools, fast, crowdposetools"):
            evaluate_keypoints(write(), RESULTS, schema(), backend="slow")
        with pytest.raises(UserError, match="CrowdPose's rules"):
            evaluate_keypoints(write(), RESULTS, schema(), backend="crowdposetools")
        monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
        with pytest.raises(UserError, match="pip install faster-coco-eval"):
            evaluate_keypoints(write(), RESULTS, schema(), backend="fast")


class TestCrowdposetools:
    """The package is on no index; stand-ins show what happens with and without it."""

    @staticmethod
    def install(monkeypatch, summarize):
        class Evaluator(cocoeval.COCOeval):
            def summarize(self):
                self.stats = summarize(self)

        monkeypatch.setitem(sys.modules, "crowdposetools", types.ModuleType("crowdposetools"))
        monkeypatch.setitem(sys.modules, "crowdposetools.coco", types.SimpleNamespace(COCO=COCO))
        monkeypatch.setitem(sys.modules, "crowdposetools.cocoeval", types.SimpleNamespace(COCOeval=Evaluator))

    def test_not_installed(self, write, monkeypatch):
        monkeypatch.setitem(sys.modules, "crowdposetools", None)
        with pytest.raises(UserError, match=r"failed .*use the default, 'pycocotools'"):
            evaluate_keypoints(write(), RESULTS, schema("crowdpose"), backend="crowdposetools")

    @pytest.mark.parametrize("name", ["float", "int", "bool", "object"])
    def test_names_that_numpy_removed_are_there_while_it_runs_and_only_then(self, write, monkeypatch, name):
        def summarize(evaluator):
            # as the original does in accumulate
            counts = np.cumsum(evaluator.eval["recall"] > -1).astype(dtype=getattr(np, name))
            assert counts.dtype == np.dtype(getattr(builtins, name))
            return [0.5] * 9

        before = dict(vars(np))
        self.install(monkeypatch, summarize)
        scores = evaluate_keypoints(write(), RESULTS, schema("crowdpose"), backend="crowdposetools")
        assert set(scores.values.values()) == {0.5}
        assert dict(vars(np)) == before

    def test_a_failure_is_an_error_and_leaves_numpy_alone(self, write, monkeypatch):
        def summarize(_):
            np.float_that_never_was  # noqa: B018

        before = dict(vars(np))
        self.install(monkeypatch, summarize)
        with pytest.raises(UserError, match=r"AttributeError: .*float_that_never_was.*use the default, 'pycocotools'"):
            evaluate_keypoints(write(), RESULTS, schema("crowdpose"), backend="crowdposetools")
        assert dict(vars(np)) == before

    def test_installed(self, write, monkeypatch, capfd):
        self.install(monkeypatch, lambda it: [it.eval["precision"].mean(where=it.eval["precision"] > -1)] * 8 + [-1])
        scores = evaluate_keypoints(write(), RESULTS, schema("crowdpose"), [1, 2], backend="crowdposetools")
        assert scores.to_dict() == pytest.approx(dict.fromkeys(CROWDPOSE_NAMES, 1.0) | {"AP_hard": None})
        assert capfd.readouterr() == ("", "")

    def test_no_detections(self, write, monkeypatch):
        self.install(monkeypatch, lambda _: pytest.fail("not to be called"))
        assert evaluate_keypoints(write(), [], schema("crowdpose"), backend="crowdposetools").main == 0


def test_the_table_is_markdown_in_percent():
    table = Scores({"AP": 0.6358, "AP_hard": math.nan}).table()
    assert table == "|   AP | AP_hard |\n| ---: | ------: |\n| 63.6 |     n/a |"


@pytest.mark.reference
@pytest.mark.parametrize("backend", ["pycocotools", "fast"])
@pytest.mark.parametrize("quality", ["good", "poor"])
def test_crowdpose_scores_equal_the_benchmarks_own(reference_dir, quality, backend):
    if backend == "fast":
        pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed")
    folder, rules = reference_dir / "evaluation", load_schema("datasets/crowdpose.yaml")
    expected = json.loads((folder / "crowdpose_val_expected.json").read_text())[quality]
    results = read_results(folder / f"crowdpose_val_detections_{quality}.json", rules)
    values = evaluate_keypoints(folder / "crowdpose_val.json", results, rules, backend=backend).values
    assert list(values) == list(expected)
    # the benchmark's program rounds the scores of bands, and only those
    assert {name: round(v, 4) if "_" in name else v for name, v in values.items()} == pytest.approx(expected, abs=1e-12)


@pytest.mark.reference
def test_coco_scores_equal_pycocotools_on_real_people(reference_dir, tmp_path):
    """The default backend through this package against pycocotools' own summary, bit for bit."""
    folder, rules = reference_dir / "evaluation", load_schema("datasets/crowdpose.yaml")
    content = json.loads((folder / "crowdpose_val.json").read_text())
    content["images"] = content["images"][:400]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [
        a | {"area": a["bbox"][2] * a["bbox"][3] * 0.6} for a in content["annotations"] if a["image_id"] in kept
    ]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(content))
    results = read_results(folder / "crowdpose_val_detections_poor.json", rules)
    results = [r for r in results if r["image_id"] in kept]
    truth = COCO(str(path))
    official = cocoeval.COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "keypoints")
    official.params.kpt_oks_sigmas = np.array(rules.sigmas)
    official.evaluate()
    official.accumulate()
    official.summarize()
    coco_rules = KeypointSchema(**{**vars(rules), "evaluator": "coco"})
    assert list(evaluate_keypoints(path, results, coco_rules).values.values()) == official.stats.tolist()
