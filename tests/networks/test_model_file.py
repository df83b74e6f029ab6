"""Models as one safetensors file: written from a checkpoint, taken wherever a checkpoint is, and found by name."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from runs import CPU, eval_job, untrained_checkpoint

from coupled_embedding.builders import build_model, config_of, load_model, save_model
from coupled_embedding.config import load_config
from coupled_embedding.engine.evaluate import evaluate
from coupled_embedding.networks import model_file
from coupled_embedding.networks.model_file import find_model, hash_of_weights
from coupled_embedding.networks.torch_files import read_weight_file
from coupled_embedding.networks.weights import initialize
from coupled_embedding.utils.errors import CheckpointError, UserError


@pytest.fixture
def checkpoint(tiny_file: Path, tiny_crowd: Path, tmp_path: Path) -> Path:
    cfg = load_config(tiny_file, ["DATASET.ROOT", str(tiny_crowd), "OUTPUT_DIR", str(tmp_path / "out")])
    return untrained_checkpoint(cfg, tmp_path / "untrained.pth", {"AP": 0.25})


@pytest.mark.parametrize("half", [False, True])
def test_what_is_written_is_read_back(checkpoint, tmp_path, half):
    model = replace(load_model(checkpoint), license="Apache-2.0\nwith a notice")
    save_model(tmp_path / "new/small.safetensors", model, half)
    again = load_model(tmp_path / "new/small.safetensors")
    own, read = model.network.state_dict(), again.network.state_dict()
    assert list(own) == list(read)
    for name, tensor in own.items():
        expected = tensor.half().float() if half and tensor.is_floating_point() else tensor
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], expected), name
    assert (again.schema, again.metrics, again.license) == (model.schema, {"AP": 0.25}, "Apache-2.0\nwith a notice")
    differing = {key for key in model.cfg if model.cfg[key] != again.cfg[key]}
    assert differing == {"DATASET"}
    assert again.cfg.DATASET.ROOT == ""
    assert str(tmp_path) not in json.dumps(read_weight_file(tmp_path / "new/small.safetensors")["config"])


def test_half_precision_halves_the_file(checkpoint, tmp_path):
    model = load_model(checkpoint)
    for half in (False, True):
        save_model(tmp_path / f"{half}.safetensors", model, half)
    tensors = sum(t.numel() for t in model.network.state_dict().values() if t.is_floating_point())
    saved = (tmp_path / "False.safetensors").stat().st_size - (tmp_path / "True.safetensors").stat().st_size
    assert saved == pytest.approx(2 * tensors, abs=1024)


def test_a_test_scores_the_file_as_it_does_the_checkpoint(checkpoint, tiny_crowd, tmp_path):
    save_model(tmp_path / "model.safetensors", load_model(checkpoint), half=False)
    options = ["TEST.HEATMAP_THRESHOLD", "0.0", "DATASET.ROOT", str(tiny_crowd)]
    of_model, of_checkpoint = (
        evaluate(eval_job(path, *options), CPU).results for path in (tmp_path / "model.safetensors", checkpoint)
    )
    assert of_model == of_checkpoint
    assert len(of_model) > 5


def test_a_training_starts_from_the_file(checkpoint, tmp_path):
    model = load_model(checkpoint)
    save_model(tmp_path / "model.safetensors", model)
    cfg = config_of(tmp_path / "model.safetensors")
    torch.manual_seed(9)
    network = build_model(cfg, model.schema.num_joints)
    (line,) = initialize(network, model.schema, init_from=str(tmp_path / "model.safetensors"))
    assert "reinitialized head channels: none" in line
    weight = "backbone.conv1.weight"
    assert torch.equal(network.state_dict()[weight], model.network.state_dict()[weight].half().float())


def test_nothing_is_overwritten_and_the_name_says_what_it_is(checkpoint, tmp_path):
    model = load_model(checkpoint)
    (tmp_path / "old.safetensors").write_text("mine")
    with pytest.raises(UserError, match=r"old\.safetensors exists"):
        save_model(tmp_path / "old.safetensors", model)
    with pytest.raises(UserError, match=r"let its name end in \.safetensors"):
        save_model(tmp_path / "old.pth", model)
    assert (tmp_path / "old.safetensors").read_text() == "mine"


def test_weights_too_large_for_half_precision_are_refused(checkpoint, tmp_path):
    model = load_model(checkpoint)
    with torch.no_grad():
        model.network.backbone.bn1.running_var[0] = 1e5
    with pytest.raises(UserError, match=r"bn1\.running_var has values beyond float16's 65504"):
        save_model(tmp_path / "model.safetensors", model)
    save_model(tmp_path / "model.safetensors", model, half=False)
    assert load_model(tmp_path / "model.safetensors").network.state_dict()["backbone.bn1.running_var"][0] == 1e5


@pytest.fixture
def written(checkpoint, tmp_path) -> Path:
    save_model(tmp_path / "model.safetensors", load_model(checkpoint))
    return tmp_path / "model.safetensors"


@pytest.mark.bad_input
def test_a_changed_weight_is_noticed(written):
    content = bytearray(written.read_bytes())
    content[-1] ^= 1
    written.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: its tensors do not match its weights_sha256"):
        load_model(written)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("config", "{", "its config is no JSON"),
        ("schema", "[" * 100_000, "its schema is no JSON"),
        ("config", "[1]", "its config: expected groups of options"),
        ("metrics", '{"AP": "high"}', "metrics: expected scores by name"),
        ("schema", "null", "its schema: expected a mapping"),
    ],
)
def test_wrong_metadata_name_the_file_and_the_field(written, tmp_path, field, value, error):
    with safetensors.safe_open(written, "pt") as file:
        metadata = file.metadata()
    changed = tmp_path / "changed.safetensors"
    safetensors.torch.save_file(safetensors.torch.load_file(written), changed, metadata | {field: value})
    with pytest.raises(UserError, match=rf"changed\.safetensors.*{error}"):
        load_model(changed)


def test_the_hash_is_of_names_types_shapes_and_values_and_not_of_their_order():
    weights = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)}
    same = dict(reversed(weights.items()))
    others = [
        {**weights, "b": torch.tensor(4)},
        {**weights, "a": weights["a"].reshape(3, 2)},
        {**weights, "a": weights["a"].to(torch.int32)},
        {"a": weights["a"], "c": weights["b"]},
    ]
    assert hash_of_weights(same) == hash_of_weights(weights)
    assert len({hash_of_weights(other) for other in [weights, *others]}) == 5


def test_models_are_found_by_name_by_folder_and_by_file(written, tmp_path, monkeypatch):
    monkeypatch.setattr(model_file, "FOLDER", tmp_path)
    assert find_model("model") == written
    assert find_model(str(written)) == written
    run = tmp_path / "run"
    run.mkdir()
    (run / "final.pth").touch()
    assert find_model(run) == run / "final.pth"
    (run / "best.pth").touch()
    assert find_model(run) == run / "best.pth"
    with pytest.raises(CheckpointError, match=r"nodel: no such file or folder, nor the name .*there are model\)"):
        find_model("nodel")


def test_a_folder_without_a_checkpoint_lists_what_it_has(tmp_path):
    (tmp_path / "epoch_3.pth").touch()
    with pytest.raises(CheckpointError, match=r"it is a folder; give one of its files: epoch_3\.pth"):
        load_model(tmp_path)
