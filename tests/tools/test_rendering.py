"""From a config to the files of a data set, the synthetic crowd rendered once when it is missing."""

import runpy
from pathlib import Path

import pytest
from runs import untrained_checkpoint

from coupled_embedding.builders import annotations_of, build_records, build_schema, load_model, save_model
from coupled_embedding.config import load_config
from coupled_embedding.data.images import read_record_image
from coupled_embedding.networks import model_file
from coupled_embedding.utils.errors import CheckpointError, ConfigError, DatasetError
from synthetic_crowd import write_layouts

TOOLS = Path(__file__).resolve().parents[2] / "tools"
rendering = runpy.run_path(str(TOOLS / "rendering.py"))
render_missing, find_test = rendering["render_missing"], rendering["find_test"]


def crowd_config(root, *more):
    small = [
        "SYNTHETIC.WIDTH",
        "64",
        "SYNTHETIC.HEIGHT",
        "64",
        "SYNTHETIC.MAX_PEOPLE",
        "3",
        "SYNTHETIC.VAL_SCENES",
        "2",
    ]
    return load_config(None, ["DATASET.SCHEMA", "datasets/synthetic.yaml", "DATASET.ROOT", str(root), *small, *more])


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """Render the validation split once; return its folder."""
    root = tmp_path_factory.mktemp("crowd")
    cfg = crowd_config(root)
    render_missing(cfg, {"val"})
    return root


def files_in(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_missing_split_is_rendered_and_read_back(crowd):
    cfg = crowd_config(crowd)
    schema = build_schema(cfg)
    records = build_records(cfg, schema, "val")
    assert len(records) == 2
    for record in records:
        assert read_record_image(record).shape == (64, 64, 3)
        assert record.keypoints.shape[1] == schema.num_joints
        assert len(record.keypoints) <= 3
        assert (record.keypoints[..., 2] > 0).any()


def test_only_the_asked_split_is_rendered(crowd):
    cfg = crowd_config(crowd)
    schema = build_schema(cfg)
    assert annotations_of(cfg, schema, "val") == crowd / "json" / "synthetic_val.json"
    assert annotations_of(cfg, schema, "val").is_file()
    assert not annotations_of(cfg, schema, "train").exists()
    assert len(files_in(crowd)) == 3


def test_what_is_there_is_left_alone(crowd, capsys):
    cfg = crowd_config(crowd)
    before = files_in(crowd)
    render_missing(cfg, {"val"})
    assert files_in(crowd) == before
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["SYNTHETIC.VAL_SCENES", "3"], "count"),
        (["SYNTHETIC.SEED", "8"], "seed"),
        (["SYNTHETIC.WIDTH", "96"], "settings"),
    ],
)
def test_other_settings_than_what_is_there_are_an_error(crowd, more, named):
    cfg = crowd_config(crowd, *more)
    before = files_in(crowd)
    with pytest.raises(DatasetError, match=rf"synthetic_val\.json already holds another dataset .*{named}"):
        render_missing(cfg, {"val"})
    assert files_in(crowd) == before


def test_image_ids_of_the_config_choose_images(crowd):
    last = build_records(crowd_config(crowd), build_schema(crowd_config(crowd)), "val")[1]
    chosen = crowd_config(crowd, "DATASET.IMAGE_IDS", f"[{last.image_id}]")
    assert [record.image_id for record in build_records(chosen, build_schema(chosen), "val")] == [last.image_id]


def test_real_data_sets_are_never_rendered(tmp_path):
    cfg = load_config(None, ["DATASET.ROOT", str(tmp_path)])
    render_missing(cfg, {"train2017", "val2017"})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DatasetError, match=r"person_keypoints_val2017\.json: no such annotation file"):
        build_records(cfg, build_schema(cfg), "val2017")


def test_a_split_that_the_schema_lacks_is_not_rendered(tmp_path):
    cfg = crowd_config(tmp_path)
    render_missing(cfg, {"", "train2017"})
    assert list(tmp_path.iterdir()) == []


def test_a_synthetic_schema_with_a_split_of_its_own_is_an_error(tmp_path, checkout):
    text = (checkout / "datasets" / "synthetic.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text + "  demo: {annotations: json/demo.json, images: images}\n")
    cfg = crowd_config(tmp_path / "crowd", "DATASET.SCHEMA", str(tmp_path / "mine.yaml"))
    with pytest.raises(ConfigError, match="the splits train, val, test, not 'demo'"):
        render_missing(cfg, {"demo"})
    assert not (tmp_path / "crowd").exists()


def test_a_test_finds_a_shipped_model_and_a_run_by_name(crowd, tmp_path, monkeypatch):
    cfg = crowd_config(crowd, "MODEL.WIDTH", "4")
    weights = untrained_checkpoint(cfg, tmp_path / "run/final.pth")
    save_model(tmp_path / "mine.safetensors", load_model(weights))
    monkeypatch.setattr(model_file, "FOLDER", tmp_path)
    found, path = find_test(None, "mine", ["DATASET.ROOT", str(crowd)], "val")
    assert (found.MODEL.WIDTH, path) == (4, tmp_path / "mine.safetensors")
    assert find_test(None, str(tmp_path / "run"), ["DATASET.ROOT", str(crowd)], "val")[1] == weights
    with pytest.raises(CheckpointError, match=r"yours: no such file or folder, nor .*there are mine"):
        find_test(None, "yours", [], "val")


def test_layouts_are_used_as_they_are_and_not_mixed_with_generated_scenes(crowd, tmp_path):
    write_layouts(tmp_path, "train", crowd / "json" / "synthetic_val.json", 0, 48)
    cfg = crowd_config(tmp_path)
    before = files_in(tmp_path)
    render_missing(cfg, {"train", ""})
    assert len(build_records(cfg, build_schema(cfg), "train")) == 2
    with pytest.raises(
        DatasetError, match=r"synthetic_val\.json is missing, and .*synthetic_train\.json holds layouts"
    ):
        render_missing(cfg, {"train", "val"})
    assert files_in(tmp_path) == before
