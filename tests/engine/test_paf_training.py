"""A network of part affinity fields is trained, tested, analyzed and used as any other."""

import json

import numpy as np
import pytest
from runs import CPU, eval_job, train_config

from coupled_embedding.analysis.error_analysis import analyze_errors, write_analysis
from coupled_embedding.engine.evaluate import evaluate
from coupled_embedding.predictor import Predictor
from coupled_embedding.utils.errors import ConfigError

FIELDS = ["MODEL.TAG_DIM", "0", "MODEL.PAF", "True", "LOSS.SCALE_ADAPTED", "False", "TEST.HEATMAP_THRESHOLD", "0.05"]


@pytest.fixture
def trained(tiny):
    return train_config(tiny("fields", *FIELDS, "MODEL.HEAD", "plain", "MODEL.PAF_STAGES", "2", "TRAIN.EPOCHS", "4"))


def test_a_run_learns_is_tested_and_predicts_the_same(trained):
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss/paf"] for line in lines if "loss/paf" in line]
    assert len(losses) >= 2
    assert losses[-1] < losses[0]
    assert not any(key.startswith("tags/") for line in lines for key in line)
    loose = ["TEST.PAF_PRESET", "sleap", "TEST.SCALES", "[1.0, 0.5]"]
    job = eval_job(trained / "final.pth", *loose)
    result = evaluate(job, CPU)
    assert result.scores is not None
    predictor = Predictor.from_pretrained(trained / "final.pth", loose)
    for record in job.records:
        (poses,) = predictor([record.path])
        expected = np.array([pose.keypoints for pose in result.poses[record.image_id]]).reshape(-1, 14, 3)
        np.testing.assert_allclose(poses.xy, expected[..., :2], atol=0.02)


def test_the_error_analysis_leaves_out_what_needs_tags(trained, tmp_path):
    job = eval_job(trained / "final.pth", "TEST.PAF_PRESET", "openpose")
    analysis = analyze_errors(job)
    assert analysis.tag_dims == 0
    assert analysis.runs["oracle"]["AP"] > 0.5
    page, numbers = write_analysis(analysis, job, tmp_path)
    assert "<h2>Tags</h2>" not in page.read_text()
    assert json.loads(numbers.read_text())["tags"]["mean_correlation"] is None


def test_a_network_with_both_groups_by_either(tiny):
    both = ["MODEL.PAF", "True", "LOSS.SCALE_ADAPTED", "False", "TRAIN.EPOCHS", "1"]
    weights = train_config(tiny("both", *both)) / "final.pth"
    by_fields = eval_job(weights, "TEST.PAF_PRESET", "openpose_coco").pipeline.decode
    assert by_fields.paf.samples == 0
    assert by_fields.refine == "fast"
    together = eval_job(weights, "TEST.PAF_PRESET", "with_tags", "TEST.TAG_THRESHOLD", "0.5")
    assert together.pipeline.decode.paf.tag_weight > 0
    assert together.pipeline.decode.paf.tag_threshold == 0.5
    assert evaluate(together, CPU).scores is not None
    by_tags = eval_job(weights, "TEST.GROUPING", "tags")
    assert by_tags.pipeline.decode.paf is None
    assert evaluate(by_tags, CPU).scores is not None


def test_grouping_by_fields_needs_them(tiny):
    with pytest.raises(ConfigError, match=r"TEST\.GROUPING: 'pafs' needs MODEL\.PAF"):
        tiny("none", "TEST.GROUPING", "pafs")


def test_fields_and_tags_together_need_tags(tiny):
    with pytest.raises(ConfigError, match=r"TEST\.PAF_PRESET: 'with_tags' needs tags"):
        tiny("none", *FIELDS, "TEST.PAF_PRESET", "with_tags")


def test_further_passes_of_grouping_are_of_tags_alone(tiny):
    with pytest.raises(ConfigError, match=r"TEST\.REGROUP: groups again by tags"):
        tiny("none", "MODEL.PAF", "True", "TEST.REGROUP", "1")
    assert tiny("tags", "MODEL.PAF", "True", "TEST.REGROUP", "1", "TEST.GROUPING", "tags").TEST.REGROUP == 1


def test_stages_of_fields_need_fields_and_no_tags(tiny):
    with pytest.raises(ConfigError, match=r"MODEL\.PAF_STAGES: 2 needs MODEL\.PAF, MODEL\.HEAD plain and"):
        tiny("none", "MODEL.PAF", "True", "MODEL.PAF_STAGES", "2")


def test_heatmaps_can_be_drawn_and_tags_that_are_not_there_are_an_error(trained, tiny_crowd, tmp_path, call_verb):
    image = next((tiny_crowd / "images").iterdir())
    options = ["predict", image, "--model", trained / "final.pth", "--out", tmp_path]
    call_verb(*options, "--heatmaps")
    assert (tmp_path / f"{image.stem}.heatmaps.jpg").is_file()
    assert "no tags to draw" in call_verb(*options, "--tags", code=2)


def test_exports_are_refused_by_name(trained, tmp_path, call_verb):
    assert "TEST.GROUPING" in call_verb("export", "--weights", trained / "final.pth", "--out", tmp_path / "x", code=2)
    assert not (tmp_path / "x").exists()
