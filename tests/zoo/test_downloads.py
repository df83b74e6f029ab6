"""Weight files: which are needed, whether they are whole, and how they are fetched over an unreliable network."""

import http.server
import threading
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from yacs.config import CfgNode

from coupled_embedding.builders import build_model, build_schema, load_info
from coupled_embedding.utils.errors import CheckpointError, ConfigError, UserError
from coupled_embedding.zoo.cards import ModelCard, Published, Weights
from coupled_embedding.zoo.downloads import (
    WeightFile,
    backbone_file,
    check_fit,
    download,
    hash_in_name,
    start_files,
    trained_file,
)

CONTENT = b"weights" * 1000
HASH = sha256(CONTENT).hexdigest()


class Cut(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; promises one byte too much of cut.pth."""

    def log_message(self, *_: object) -> None:
        pass

    def send_header(self, keyword: str, value: str) -> None:
        if keyword == "Content-Length" and self.path == "/cut.pth":
            value = str(int(value) + 1)
        super().send_header(keyword, value)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server on this machine that has good.pth and cut.pth."""
    folder = tmp_path / "served"
    folder.mkdir()
    for name in ("good.pth", "cut.pth"):
        (folder / name).write_bytes(CONTENT)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Cut, directory=str(folder))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def wanted(tmp_path: Path, **known) -> WeightFile:
    return WeightFile("MODEL.PRETRAINED", tmp_path / "new" / "net.pth", **{"sha256": HASH[:8], **known})


def left_in(file: WeightFile) -> list[str]:
    return sorted(path.name for path in file.path.parent.iterdir())


def test_a_good_file_is_fetched_by_http_and_from_a_folder(server, tmp_path):
    file = wanted(tmp_path, bytes=len(CONTENT), url=f"{server}/good.pth")
    download(file)
    assert file.path.read_bytes() == CONTENT
    assert left_in(file) == ["net.pth"]
    other = WeightFile("", tmp_path / "copy.pth", HASH)
    download(other, (tmp_path / "served/good.pth").as_uri())
    assert other.path.read_bytes() == CONTENT


def test_nothing_is_overwritten(server, tmp_path):
    file = wanted(tmp_path)
    file.path.parent.mkdir()
    file.path.write_bytes(b"mine")
    with pytest.raises(UserError, match="exists; delete it"):
        download(file, f"{server}/good.pth")
    assert file.path.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("known", "message"),
    [({"sha256": "00000000"}, f"begins with {HASH[:8]}, not 00000000"), ({"bytes": 5}, "bytes, not 5")],
)
def test_another_file_is_not_kept(server, tmp_path, known, message):
    file = wanted(tmp_path, **known)
    with pytest.raises(CheckpointError, match="not the wanted file") as caught:
        download(file, f"{server}/good.pth")
    assert message in str(caught.value)
    assert left_in(file) == []


@pytest.mark.parametrize("page", ["/cut.pth", "/absent.pth"])
def test_a_failed_transfer_is_an_error_and_leaves_nothing(server, tmp_path, page):
    file = wanted(tmp_path, sha256="", origin="the authors")
    with pytest.raises(UserError, match=r"cannot be fetched.*belongs at .*net\.pth; from the authors"):
        download(file, server + page)
    assert left_in(file) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x.pth", "file:///nowhere/x.pth", "no address", "http://[/x"])
def test_without_a_network_the_error_names_the_place(tmp_path, url):
    file = wanted(tmp_path)
    with pytest.raises(UserError, match=r"cannot be fetched.*belongs at"):
        download(file, url)
    assert left_in(file) == []


def test_without_an_address_nothing_is_tried(tmp_path):
    with pytest.raises(UserError, match="no address is known"):
        download(wanted(tmp_path))


@pytest.mark.parametrize(
    ("name", "digits"),
    [("hrnet_w32-36af842e.pth", "36af842e"), ("net-36AF842E.pth", ""), ("best.pth", ""), ("a-1234567.pth", "")],
)
def test_the_hash_stands_in_the_name_as_torch_hub_has_it(name, digits):
    assert hash_in_name(name) == digits


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ("config/coco/ce_hrnet_w32_512.yaml", ["hrnet_w32-36af842e.pth"]),
        ("config/crowdpose/ce_hrhrnet_w48_640.yaml", ["hrnet_w48-8ef0771d.pth"]),
        ("config/crowdpose/ce_hrhrnet_w48_640_plus.yaml", ["coco_ce_hrhrnet_w48_640.pth"]),
        ("config/synthetic/ce_small.yaml", []),
    ],
)
def test_a_config_needs_these(config, names):
    files = start_files(load_info(config))
    assert [file.path.name for file in files] == names
    for file in files:
        assert file.sha256 == hash_in_name(file.path.name)
        if file.option == "MODEL.PRETRAINED":
            assert file.url.endswith(f"/{file.path.name}")
            assert file.path.name in yaml_of(file)


def yaml_of(file: WeightFile) -> str:
    return file.path.with_suffix(".yaml").read_text()


def test_a_backbones_card_may_be_wrong(tmp_path):
    (tmp_path / "net.yaml").write_text("title: x\nfile: net.pth\nsha256: 12345678\norigin: y\n")
    with pytest.raises(ConfigError, match=r"net\.yaml: sha256: expected a str"):
        backbone_file(tmp_path / "net.pth")


def test_a_cards_own_weights_are_known_by_their_name(tmp_path):
    weights = Weights("net.pth", HASH, 7000, url="https://example.org/net.pth")
    card = ModelCard("net", "a network", "net.yaml", 64, "scratch", weights, Published("none", "train", {}))
    known = trained_file(card, tmp_path / "net.pth")
    assert (known.sha256, known.bytes, known.url) == (HASH, 7000, "https://example.org/net.pth")
    assert known.origin.startswith("your own training")
    run = trained_file(card, tmp_path / "best.pth")
    assert (run.sha256, run.bytes, run.url) == ("", 0, "")


def fit(file: WeightFile, cfg: CfgNode) -> str:
    schema = build_schema(cfg)
    return check_fit(file, build_model(cfg, schema.num_joints), schema, cfg.MODEL.INIT_SCHEMA)


def test_every_key_of_a_backbone_is_accounted_for(tiny, tmp_path):
    cfg = tiny("fit")
    weights = build_model(cfg, build_schema(cfg).num_joints).backbone.state_dict()
    path = tmp_path / "backbone.pth"
    torch.save({**weights, "classifier.weight": torch.zeros(3)}, path)
    file = WeightFile("MODEL.PRETRAINED", path)
    file.check()
    assert fit(file, cfg).startswith(f"{len(weights)} tensors fit, 1 of classification")
    torch.save({**weights, "neck.weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match=r"not in this network: neck\.weight"):
        fit(file, cfg)


def test_start_weights_and_own_weights_are_loaded_too(tiny, tmp_path, save_weights):
    cfg = tiny("fit")
    path = save_weights(cfg, tmp_path / "net.pth")
    assert fit(WeightFile("MODEL.INIT_FROM", path), cfg) == "its tensors fit; reinitialized head channels: none"
    assert fit(WeightFile("models/", path), cfg).startswith("all ")
    wider = tiny("wider", "MODEL.WIDTH", "8")
    with pytest.raises(CheckpointError, match="does not fit"):
        fit(WeightFile("models/", path), wider)


def test_a_page_that_came_instead_of_the_weights_is_named(tmp_path):
    path = tmp_path / "net.pth"
    path.write_bytes(b"<!DOCTYPE html><title>Sign in</title>")
    for known in ({"bytes": 9}, {"sha256": HASH}):
        with pytest.raises(
            CheckpointError, match=r"net\.pth: .* it is an HTML page \('Sign in'\); a server sent a page"
        ):
            WeightFile("", path, **known).check()


def test_averaged_weights_are_reported_where_a_file_is_checked(tiny, tmp_path):
    cfg = tiny("fit")
    weights = build_model(cfg, build_schema(cfg).num_joints).state_dict()
    torch.save({"model": {name: w + 1 for name, w in weights.items()}, "ema": weights}, tmp_path / "net.pth")
    for option in ("models/", "MODEL.INIT_FROM"):
        found = fit(WeightFile(option, tmp_path / "net.pth"), tiny("fit", "MODEL.INIT_SCHEMA", cfg.DATASET.SCHEMA))
        assert "the averaged weights (the key 'ema') are taken" in found


def test_a_cut_or_damaged_file_is_an_error(tmp_path):
    path = tmp_path / "net.pth"
    path.write_bytes(CONTENT)
    WeightFile("", path, HASH, len(CONTENT)).check()
    with pytest.raises(CheckpointError, match="has 7000 bytes, not 7001"):
        WeightFile("", path, HASH, 7001).check()
    with pytest.raises(CheckpointError, match="its SHA-256 begins with"):
        WeightFile("", path, "ffffffff").check()
    with pytest.raises(CheckpointError, match="no such weight file"):
        WeightFile("", tmp_path / "none.pth").check()
