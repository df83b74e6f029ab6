"""Weight files that once crashed, ate memory or decided where this machine writes."""

import io
import runpy
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fuzz_weights import Called, backbone_content, own_content, released_content, tiny_network

from coupled_embedding.builders import build_eval_job, build_model, build_pipeline_options, config_of, load_model
from coupled_embedding.decode.pipeline import InferencePipeline
from coupled_embedding.engine.evaluate import EvalJob
from coupled_embedding.networks.building import build_on_meta
from coupled_embedding.networks.state_dict import network_weights
from coupled_embedding.networks.torch_files import read_weight_file
from coupled_embedding.networks.weights import load_backbone, load_network, transfer_weights
from coupled_embedding.predictor import Predictor
from coupled_embedding.utils.distributed import DistEnv
from coupled_embedding.utils.errors import CheckpointError, ConfigError, DatasetError, UserError

pytestmark = pytest.mark.bad_input

HERE = DistEnv(0, 1, torch.device("cpu"))
TOOLS = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools" / "rendering.py"))


def prepare(weights: Path, overrides: list[str]) -> EvalJob:
    """Do what tools/test.py does before it evaluates."""
    cfg, path = TOOLS["find_test"](None, str(weights), overrides, "")
    TOOLS["render_missing"](cfg, {cfg.DATASET.TEST})
    return build_eval_job(cfg, path, "", HERE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hostile.pth"


def with_pickle(pickled: bytes) -> bytes:
    """Return an archive with a pickle written by hand."""
    source = io.BytesIO()
    torch.save({"w": torch.ones(8)}, source)
    written = io.BytesIO()
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(written, "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename, pickled if entry.filename.endswith("data.pkl") else old.read(entry))
    return written.getvalue()


def methods_replaced() -> Called:
    pairs = [[key, value] for key, value in own_content().items()]
    return Called(OrderedDict, pairs, state={"get": 3, "items": "x", "keys": None})


def shared() -> list[Any]:
    value: list[Any] = ["lol"]
    for _ in range(40):
        value = [value] * 3
    return value


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize("legacy", [False, True])
def test_what_asks_for_more_than_tensors_takes_no_memory(path: Path, legacy: bool) -> None:
    torch.save({"model": {}, "x": Called(bytearray, 2**28)}, path, _use_new_zipfile_serialization=not legacy)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=r"hostile\.pth: not a readable weight file .*bytearray"):
        read_weight_file(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (torch.ones(1).expand(10**6, 10**6), "for which it is too small"),
        (torch.ones(3).to_sparse(), "_rebuild_sparse_tensor"),
        (torch.ones(3, dtype=torch.complex64), "ComplexFloatStorage"),
        (torch.ones(3, device="meta"), "_rebuild_meta_tensor"),
        ({1, 2}, "set"),
        (np.float64(1), "numpy"),
        ({1.5: 2}, "a key that is neither text nor a whole number"),
        ({None: 2}, "a key that is neither text nor a whole number"),
        ({n * (2**61 - 1): 0 for n in range(9)}, "a whole number of more than 64 bits"),
        (shared(), "containers inside each other without end"),
        (endless(), "containers inside each other without end"),
    ],
)
def test_values_that_weights_do_not_need_are_refused(path: Path, value: Any, reason: str) -> None:
    torch.save({"model": {}, "x": value}, path)
    with pytest.raises(CheckpointError, match=rf"hostile\.pth: not a readable weight file .*{reason}"):
        read_weight_file(path)


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02cos\nsystem\nX\x0b\x00\x00\x00touch owned\x85R.",
        b"\x80\x02(X\x0b\x00\x00\x00touch ownedios\nsystem\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0btouch owned\x85R.",
        b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
        b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".",
        b"\x80\x02}" + b"(" * 5000 + b".",
        b"\x80\x02X\xff\xff\xff\xffabc.",
    ],
)
def test_pickles_written_by_hand_are_refused(path: Path, pickled: bytes, monkeypatch) -> None:
    monkeypatch.chdir(path.parent)
    path.write_bytes(with_pickle(pickled))
    with pytest.raises(CheckpointError, match=r"hostile\.pth: (not a readable weight file|expected a dict)"):
        read_weight_file(path)
    assert not Path("owned").exists()


def test_an_archive_that_unpacks_to_more_than_its_size_is_refused(path: Path) -> None:
    torch.save({"w": torch.ones(8)}, path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("hostile/data/1", bytes(10**7))
    with pytest.raises(CheckpointError, match="unpacks to more than its own size"):
        read_weight_file(path)


def test_tensors_that_share_their_memory_without_end_are_refused(path: Path) -> None:
    many = torch.ones(100_000)
    torch.save({f"w{n}": many for n in range(20)}, path)
    with pytest.raises(CheckpointError, match="for which it is too small"):
        read_weight_file(path)
    torch.save({f"w{n}": many for n in range(4)}, path)
    assert len(read_weight_file(path)) == 4


def test_a_storage_that_declares_more_than_it_has_is_refused(path: Path) -> None:
    torch.save({"w": torch.ones(1000)}, path)
    changed = path.read_bytes().replace(b"M\xe8\x03", b"M\xff\xff")
    path.write_bytes(changed)
    with pytest.raises(CheckpointError, match="not a readable weight file"):
        read_weight_file(path)


def test_methods_hung_on_a_dict_are_left_behind(path: Path) -> None:
    torch.save(methods_replaced(), path)
    with pytest.raises(TypeError):  # what it does to who reads it as it is
        torch.load(path, weights_only=True).get("model")
    assert type(read_weight_file(path)) is dict
    assert load_model(path).schema.name == "synthetic"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"config": None}, "its config: expected groups of options, got None"),
        ({"config": [1]}, "its config: expected groups of options"),
        ({"config": {"NAME": "../../outside"}}, "its config: NAME: .* is invalid"),
        ({"config": {"NAME": "a\0b"}}, "its config: NAME: .* control characters"),
        ({"schema": None}, "its schema: expected a mapping"),
        ({"schema": {"joints": [[1], 2]}}, "its schema: field 'name' is missing"),
        ({"format": torch.ones(3)}, "not a checkpoint of this package"),
        ({"format": None}, r"not a checkpoint of this package \(format None"),
        ({"metrics": 3}, "metrics: expected scores by name"),
        ({"metrics": {"AP": "x"}}, "metrics: expected scores by name"),
        ({"model": {1: torch.ones(1)}}, "does not fit this network"),
        ({"model": {"a": torch.ones(1), "module.a": torch.ones(1)}}, "under the same name with and without 'module.'"),
    ],
)
def test_checkpoints_with_changed_parts_are_refused(path: Path, changes: dict[str, Any], reason: str) -> None:
    torch.save({**own_content(), **changes}, path)
    with pytest.raises(UserError, match=rf"hostile\.pth.*{reason}"):
        load_model(path)


@pytest.mark.parametrize("part", ["config", "schema", "model"])
def test_checkpoints_without_a_part_are_refused(path: Path, part: str) -> None:
    torch.save({key: value for key, value in own_content().items() if key != part}, path)
    with pytest.raises(UserError, match=r"hostile\.pth"):
        load_model(path)


def test_the_config_of_a_huge_network_costs_no_memory(path: Path) -> None:
    content = own_content()
    content["config"]["MODEL"] |= {"WIDTH": 512, "STAGE_MODULES": [1, 4, 32], "STAGE_BLOCKS": 7}  # a terabyte
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"hostile\.pth: does not fit this network"):
        load_model(path)


def test_a_network_on_the_meta_device_is_the_network_once_loaded(path: Path) -> None:
    torch.save(released_content(), path)
    network, cfg, schema = tiny_network()
    meta = build_on_meta(lambda: build_model(cfg, schema.num_joints))
    assert all(parameter.is_meta for parameter in meta.parameters())
    load_network(meta, path)
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(meta(image).tags, network(image).tags)


def test_weights_that_are_not_finite_are_named(path: Path) -> None:
    content = backbone_content()
    content["conv1.weight"] = torch.full_like(content["conv1.weight"], float("nan"))
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"hostile\.pth: .*\n  not finite: conv1\.weight"):
        load_backbone(tiny_network()[0], path)


@pytest.mark.parametrize(
    "name", ["head.tms_pred_layers.weight", "head.hms_pred_layers.0.bias", "head.deconv_layers.0.weight"]
)
@pytest.mark.parametrize("tensor", [torch.tensor(1.0), torch.ones(0), torch.ones(13), torch.ones(2, 3)])
def test_head_channels_of_any_shape_are_refused(name: str, tensor: torch.Tensor) -> None:
    network, _, schema = tiny_network()
    weights = {**network_weights(released_content(), "f"), name: tensor}
    with pytest.raises(CheckpointError, match=r"hostile\.pth"):
        transfer_weights(network, weights, schema.joints, schema.joints, "hostile.pth")


# ---- where a checkpoint from elsewhere may write, and what it may make of an image


def test_a_checkpoint_does_not_say_where_to_write(path: Path, tmp_path: Path, tiny_crowd: Path) -> None:
    content = own_content()
    content["config"] |= {"OUTPUT_DIR": str(tmp_path / "outside"), "NAME": "tiny"}
    content["config"]["DATASET"]["ROOT"] = str(tiny_crowd)
    content["config"]["SYNTHETIC"] |= {"WIDTH": 96, "HEIGHT": 96, "TEST_SCENES": 5, "MAX_PEOPLE": 10}
    torch.save(content, path)
    assert prepare(path, []).folder == Path("outputs/tiny/test_test")
    given = ["OUTPUT_DIR", str(tmp_path / "given"), "NAME", "mine"]
    assert prepare(path, given).folder == tmp_path / "given/mine/test_test"
    assert not (tmp_path / "outside").exists()


def test_a_checkpoint_does_not_render_into_a_folder_of_its_choice(path: Path, tmp_path: Path) -> None:
    content = own_content()
    content["config"]["DATASET"]["ROOT"] = str(tmp_path / "outside")
    torch.save(content, path)
    with pytest.raises(UserError, match=r"a checkpoint's own DATASET\.ROOT is read from but not written to"):
        prepare(path, [])
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize(
    ("key", "value"), [("WIDTH", 2048), ("HEIGHT", 2048), ("MAX_PEOPLE", 40), ("TEST_SCENES", 10**6)]
)
def test_a_checkpoint_does_not_say_how_much_to_render(path: Path, tmp_path: Path, key: str, value: int) -> None:
    content = own_content()
    schema = tmp_path / "synthetic.yaml"
    text = Path("datasets/synthetic.yaml").read_text()
    schema.write_text(text.replace("root: datasets/synthetic", f"root: {tmp_path / 'own'}"))
    content["config"]["DATASET"] |= {"SCHEMA": str(schema), "ROOT": ""}
    content["config"]["SYNTHETIC"] |= {"WIDTH": 96, "HEIGHT": 96, "TEST_SCENES": 2, "MAX_PEOPLE": 3, key: value}
    torch.save(content, path)
    for given in ([], ["DATASET.ROOT", str(tmp_path / "given")]):
        with pytest.raises(UserError, match=rf"renders no more than the defaults: its SYNTHETIC\.{key} is {value}"):
            prepare(path, given)
    assert not any((tmp_path / name).exists() for name in ("own", "given"))
    if key == "TEST_SCENES":  # what the user says counts
        task = prepare(path, ["SYNTHETIC.TEST_SCENES", "1"])
        assert len(task.records) == 1


def test_a_strip_of_an_image_gives_no_endless_input() -> None:
    network, cfg, schema = tiny_network()
    pipeline = InferencePipeline(network, build_pipeline_options(cfg, schema))
    predictor = Predictor(pipeline, schema, cfg.DATASET.INPUT_SIZE)
    with pytest.raises(DatasetError, match="image is 5000×2 pixels; testing takes images up to 32 times"):
        predictor(np.zeros((2, 5000, 3), np.uint8))


def test_a_name_from_a_checkpoint_is_one_component(path: Path) -> None:
    content = own_content()
    content["config"]["NAME"] = "/tmp/outside"
    torch.save(content, path)
    with pytest.raises(ConfigError, match=r"hostile\.pth, its config: NAME"):
        config_of(path)
