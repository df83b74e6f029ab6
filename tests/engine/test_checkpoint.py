from pathlib import Path

import pytest
import torch
from runs import train_config, untrained_checkpoint

from coupled_embedding.builders import load_model
from coupled_embedding.config import load_config
from coupled_embedding.config.resume import check_resume_config
from coupled_embedding.data.schema import load_schema
from coupled_embedding.engine.checkpointer import read_resumable, write_checkpoint
from coupled_embedding.utils.errors import CheckpointError, ConfigError, UserError

SMALL = ["MODEL.WIDTH", "4", "MODEL.STEM_WIDTH", "8", "MODEL.STAGE_MODULES", "[1,1,1]", "MODEL.STAGE_BLOCKS", "1"]
SMALL += ["DATASET.SCHEMA", "datasets/crowdpose.yaml"]


@pytest.fixture
def content(tmp_path: Path) -> dict:
    cfg = load_config(None, SMALL)
    path = untrained_checkpoint(cfg, tmp_path / "content.pth", {"AP": 0.5}, 12)
    content = torch.load(path, weights_only=True)
    path.unlink()
    return content


def test_a_checkpoint_alone_rebuilds_the_network(content: dict, tmp_path: Path) -> None:
    write_checkpoint(content, tmp_path / "run" / "best.pth")
    model = load_model(tmp_path / "run" / "best.pth")
    assert model.schema == load_schema("datasets/crowdpose.yaml")
    assert model.cfg == load_config(None, SMALL)
    assert model.metrics == {"AP": 0.5}
    assert not model.network.training
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor, content["model"][name])


def test_files_load_with_weights_only(content: dict, tmp_path: Path) -> None:
    write_checkpoint(content, tmp_path / "best.pth")
    assert torch.load(tmp_path / "best.pth", weights_only=True)["step"] == 12


def test_a_failed_write_leaves_the_old_checkpoint(content: dict, tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "best.pth"
    write_checkpoint(content, path)
    before = path.read_bytes()

    def disk_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", disk_full)
    with pytest.raises(UserError, match=r"best\.pth: cannot write .*No space left"):
        write_checkpoint({**content, "step": 13}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_that_is_no_folder_is_an_error(content: dict, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the checkpoint"):
        write_checkpoint(content, tmp_path / "file" / "best.pth")


@pytest.mark.parametrize(
    ("change", "message"), [({"format": "other/2"}, "not a checkpoint of this package"), ({"model": {}}, "missing:")]
)
def test_foreign_and_incomplete_files_are_refused(content: dict, tmp_path: Path, change: dict, message: str) -> None:
    write_checkpoint({**content, **change}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path / "x.pth")


def test_a_changed_config_inside_is_checked(content: dict, tmp_path: Path) -> None:
    content["config"]["TRAIN"]["LR"] = -1.0
    write_checkpoint(content, tmp_path / "x.pth")
    with pytest.raises(ConfigError, match=r"x\.pth, its config: TRAIN\.LR: -1\.0"):
        load_model(tmp_path / "x.pth")


def test_truncated_files_are_named(content: dict, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_00000012.pth"
    write_checkpoint(content, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"checkpoint_00000012\.pth: not a readable weight file"):
        load_model(path)


def test_only_the_latest_numbered_checkpoints_are_kept(tiny) -> None:
    folder = train_config(tiny("kept", "TRAIN.KEEP", "2", "TRAIN.SAVE_STEPS", "1"))
    assert sorted(path.name for path in folder.glob("*.pth")) == [
        "best.pth",
        "checkpoint_00000005.pth",
        "checkpoint_00000006.pth",
        "final.pth",
    ]


def test_weights_alone_cannot_continue_a_training(content: dict, tmp_path: Path) -> None:
    write_checkpoint(content, tmp_path / "best.pth")
    with pytest.raises(CheckpointError, match=r"best\.pth: not a checkpoint that training can continue from"):
        read_resumable(tmp_path / "best.pth")


def test_an_option_younger_than_the_checkpoint_counts_as_its_default(content: dict, tmp_path: Path) -> None:
    present = content["config"]
    saved = {**present, "MODEL": {k: v for k, v in present["MODEL"].items() if k not in ("PIXELS", "BACKBONE")}}
    check_resume_config(saved, load_config(None, SMALL), tmp_path)
    changed = load_config(None, [*SMALL, "MODEL.PIXELS", "unit"])
    with pytest.raises(UserError, match=r"MODEL\.PIXELS: 'imagenet' before, 'unit' now"):
        check_resume_config(saved, changed, tmp_path)


def test_a_checkpoint_older_than_scale_maps_loads(content: dict, tmp_path: Path) -> None:
    del content["config"]["MODEL"]["SCALE_MAPS"]
    write_checkpoint(content, tmp_path / "best.pth")
    model = load_model(tmp_path / "best.pth")
    assert model.cfg == load_config(None, SMALL)
    assert model.network.state_dict().keys() == content["model"].keys()
