"""Models in the layout of the Hugging Face Hub: folders and repositories give the same poses; what is uploaded."""

import http.server
import json
import shutil
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import yaml
from huggingface_hub import constants, hub_mixin
from runs import untrained_checkpoint

from coupled_embedding import builders
from coupled_embedding.builders import load_model, save_model
from coupled_embedding.networks import model_file
from coupled_embedding.networks.model_file import hash_of_weights
from coupled_embedding.networks.weights import read_own_checkpoint
from coupled_embedding.poses import Poses
from coupled_embedding.predictor import Predictor
from coupled_embedding.utils.errors import CheckpointError, UserError

NAMES = ["LICENSE", "README.md", "config.json", "model.safetensors"]


@pytest.fixture
def checkpoint(tiny, tmp_path: Path) -> Path:
    """A model with a license and scores."""
    path = untrained_checkpoint(tiny("untrained"), tmp_path / "untrained.pth", {"AP": 0.25})
    save_model(tmp_path / "model.safetensors", replace(load_model(path), license="Anyone may use it."), half=False)
    return tmp_path / "model.safetensors"


@pytest.fixture
def predictor(checkpoint: Path) -> Predictor:
    return Predictor.from_pretrained(checkpoint, heatmap_threshold=0.0, size=128, flip=False)


@pytest.fixture
def folder(predictor: Predictor, tmp_path: Path) -> Path:
    return predictor.save_pretrained(tmp_path / "hub")


@pytest.fixture
def image(tiny_crowd: Path) -> Path:
    return sorted((tiny_crowd / "images").iterdir())[0]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that asks for the Hub says so, by another `snapshot_download` or a server of its own."""
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("asked for the Hub"))


def assert_same(found: Poses, expected: Poses) -> None:
    assert len(found) == len(expected) > 0
    assert np.array_equal(found.decoded, expected.decoded)
    assert np.array_equal(found.tags, expected.tags)


# ---- folders


def test_a_folder_gives_the_same_poses_with_the_same_options(predictor, folder, image):
    read = Predictor.from_pretrained(folder)
    assert (read.input_size, read.pipeline.options) == (128, predictor.pipeline.options)
    assert_same(read(image), predictor(image))
    assert_same(Predictor.from_pretrained(str(folder / "model.safetensors"))(image), predictor(image))
    assert Predictor.from_pretrained(folder, size=64).input_size == 64


def test_a_folder_is_what_the_hub_expects(folder, checkpoint):
    assert sorted(path.name for path in folder.iterdir()) == NAMES
    card = (folder / "README.md").read_text()
    about = yaml.safe_load(card.split("---\n")[1])
    assert about["library_name"] == "coupled-embedding"
    assert about["pipeline_tag"] == "keypoint-detection"
    assert {"pose-estimation", "model_hub_mixin"} <= set(about["tags"])
    assert "| AP | 0.25 |" in card
    assert "short side 128 pixels |" in card
    config = json.loads((folder / "config.json").read_text())
    assert config["config"]["TEST"]["FLIP"] is False
    assert config["schema"]["joints"] == list(load_model(checkpoint).schema.joints)
    assert (folder / "LICENSE").read_text() == "Anyone may use it."


def test_everything_that_takes_a_checkpoint_takes_a_folder(folder):
    assert load_model(folder).license == "Anyone may use it."
    assert load_model(folder).metrics == {"AP": 0.25}
    assert read_own_checkpoint(folder)["config"]["DATASET"]["INPUT_SIZE"] == 128


def test_the_config_that_users_edit_counts(folder):
    config = json.loads((folder / "config.json").read_text())
    config["config"]["TEST"]["HEATMAP_THRESHOLD"] = 0.3
    (folder / "config.json").write_text(json.dumps(config))
    assert Predictor.from_pretrained(folder).pipeline.options.decode.peaks.threshold == 0.3


def test_half_precision_is_half_as_large(predictor, folder, tmp_path):
    half = predictor.save_pretrained(tmp_path / "half", half=True)
    sizes = [(one / "model.safetensors").stat().st_size for one in (half, folder)]
    assert sizes[0] < 0.7 * sizes[1]
    assert len(Predictor.from_pretrained(half)(np.zeros((64, 64, 3), np.uint8)).names) == 14


def test_nothing_is_overwritten(predictor, folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UserError, match=r"model\.safetensors exists; delete it first"):
        predictor.save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda config: config["config"]["TEST"].update(FLIPS=True), r"config\.json|unknown key 'TEST\.FLIPS'"),
        (lambda config: config["config"]["MODEL"].update(WIDTH="wide"), r"MODEL\.WIDTH: expected a whole number"),
        (lambda config: config["config"]["MODEL"].update(WIDTH=8), r"MODEL\.WIDTH is 4 in the file, 8"),
        (lambda config: config["schema"].update(joints=[]), "its schema: joints"),
        (lambda config: config.update(auto_map="code.py"), r"config\.json: unknown field auto_map"),
        (lambda config: config.update(format="coupled_embedding/9"), "coupled_embedding/9"),
        (lambda config: config.update(metrics=["high"]), "metrics: expected scores by name"),
        (lambda config: config.pop("config"), "its config: expected groups of options"),
    ],
)
def test_a_wrong_config_is_an_error_that_names_the_field(folder, change, named):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=named):
        Predictor.from_pretrained(folder)


@pytest.mark.bad_input
def test_other_folders_and_damaged_files_are_errors(folder, checkpoint, tmp_path):
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text[:100])
    with pytest.raises(CheckpointError, match=r"config\.json: not JSON .*damaged"):
        Predictor.from_pretrained(folder)
    (folder / "config.json").write_text('{"architectures": ["DetrModel"]}')
    with pytest.raises(CheckpointError, match=r"it is a folder; give one of its files: model\.safetensors"):
        Predictor.from_pretrained(folder)
    (folder / "config.json").write_text(text)
    shutil.copy(tmp_path / "untrained.pth", folder / "model.safetensors")  # a pickle
    with pytest.raises(CheckpointError, match="a PyTorch file under the name of a safetensors file"):
        Predictor.from_pretrained(folder)


# ---- names


def test_local_files_and_shipped_names_never_ask_the_hub(folder, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model_file, "FOLDER", tmp_path / "models")
    (tmp_path / "models").mkdir()
    shutil.copy(checkpoint, tmp_path / "models/mine.safetensors")
    (tmp_path / "owner").mkdir()
    shutil.copytree(folder, tmp_path / "owner/name")
    for source in ("mine", "hub", "owner/name", Path("owner/name"), "model.safetensors", str(folder)):
        assert Predictor.from_pretrained(source).schema.num_joints == 14
    for missing in ("owner/nane", "models/mine.pth", "./a/b", "other/mine.safetensors", Path("a/b")):
        with pytest.raises(CheckpointError, match="no such weight file"):
            Predictor.from_pretrained(missing)
    with pytest.raises(CheckpointError, match="no such file or folder, nor the name of a shipped model"):
        Predictor.from_pretrained("nine")
    with pytest.raises(CheckpointError, match=r"expected hf://OWNER/NAME"):
        Predictor.from_pretrained("hf://name")


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the Hub's protocol that a download takes, for one repository that is a folder."""

    folder: Path
    asked: list[str]
    COMMIT = "0123456789abcdef0123456789abcdef01234567"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.asked.append(self.path)
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"] and parts[2:4] == ["owner", "name"]:
            files = [{"type": "file", "path": p.name, "size": p.stat().st_size, "oid": "0" * 40} for p in self._files()]
            info = {"id": "owner/name", "sha": self.COMMIT, "siblings": [{"rfilename": f["path"]} for f in files]}
            self._answer(200, json.dumps(files if "tree" in parts else info).encode(), "application/json")
        elif parts[:3] == ["owner", "name", "resolve"] and (self.folder / parts[-1]).is_file():
            self._answer(200, (self.folder / parts[-1]).read_bytes(), "application/octet-stream", parts[-1])
        else:
            self._answer(404, b"", "text/plain", error="RepoNotFound")

    def _files(self) -> list[Path]:
        return sorted(self.folder.iterdir())

    def _answer(self, status: int, content: bytes, kind: str, name: str = "", error: str = "") -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(content)), "X-Repo-Commit": self.COMMIT}
        headers |= {"ETag": f'"{name}"'} if name else {}
        headers |= {"X-Error-Code": error} if error else {}
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(folder, tmp_path, monkeypatch) -> Iterator[type[Hub]]:
    """A server of the folder as owner/name, which huggingface_hub asks instead of the Hub."""
    handler = type("Handler", (Hub,), {"folder": folder, "asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.undo()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    yield handler
    server.shutdown()
    server.server_close()


def test_a_model_is_downloaded_from_the_hub_once_and_only_its_own_files(hub, predictor, folder, image):
    (folder / "code.py").write_text("1 / 0")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    for source in ("owner/name", "hf://owner/name", f"owner/name@{hub.COMMIT}"):
        assert_same(Predictor.from_pretrained(source)(image), predictor(image))
    fetched = [path for path in hub.asked if "/resolve/" in path]
    assert {path.rpartition("/")[2] for path in fetched} == set(NAMES)
    assert not list(Path("cache").rglob("*.bin"))


def test_a_model_that_the_hub_has_not_is_an_error(hub):
    with pytest.raises(CheckpointError, match=r"owner/other: no such file or folder here, .*no such model"):
        Predictor.from_pretrained("owner/other")


def test_a_repository_of_another_program_is_an_error(hub, folder):
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"owner/name: .* has no config\.json and model\.safetensors of this"):
        Predictor.from_pretrained("owner/name")


def test_without_a_connection_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(CheckpointError, match=r"owner/name: .*the Hugging Face Hub does not give it \(\w+"):
        Predictor.from_pretrained("owner/name")


# ---- uploads


class FakeApi:
    """Notes what would be uploaded."""

    uploads: list[dict]

    def __init__(self, token: str | None = None) -> None:
        self.token = token

    def create_repo(self, repo_id: str, private: bool | None, exist_ok: bool) -> object:
        return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload_folder(self, repo_id: str, folder_path: Path, **options: object) -> str:
        files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
        self.uploads.append({"repo": repo_id, "token": self.token, "files": files, **options})
        return f"https://huggingface.co/{repo_id}/commit/1"


@pytest.fixture
def uploads(monkeypatch) -> list[dict]:
    monkeypatch.setattr(FakeApi, "uploads", [], raising=False)
    monkeypatch.setattr(hub_mixin, "HfApi", FakeApi)
    return FakeApi.uploads


def test_what_is_pushed_is_the_folder(predictor, folder, uploads, tmp_path):
    address = predictor.push_to_hub("owner/name", token="secret", branch="v2", commit_message="First")
    assert address == "https://huggingface.co/owner/name/commit/1"
    (upload,) = uploads
    assert (upload["repo"], upload["token"], upload["revision"]) == ("owner/name", "secret", "v2")
    assert upload["commit_message"] == "First"
    assert sorted(upload["files"]) == NAMES
    for name in ("LICENSE", "config.json"):
        assert upload["files"][name] == (folder / name).read_bytes()
    (tmp_path / "pushed.safetensors").write_bytes(upload["files"]["model.safetensors"])
    pushed, written = (read_own_checkpoint(path) for path in (tmp_path / "pushed.safetensors", folder))
    assert pushed["config"] == written["config"]
    assert hash_of_weights(pushed["model"]) == hash_of_weights(written["model"])
    assert 'Predictor.from_pretrained("owner/name")' in upload["files"]["README.md"].decode()
    assert not any(b"secret" in content for content in upload["files"].values())


def test_a_failed_upload_is_an_error_that_names_the_repository(predictor, uploads, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(FakeApi, "upload_folder", refuse)
    with pytest.raises(UserError, match=r"owner/name: cannot upload .*\(ConnectionError: no route"):
        predictor.push_to_hub("owner/name")
    with pytest.raises(UserError, match=r"a/b/c: cannot upload"):
        predictor.push_to_hub("a/b/c")


def test_without_huggingface_hub_folders_are_read_and_saving_says_what_to_install(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "coupled_embedding.builders.hub", raising=False)
    monkeypatch.delattr(builders, "hub", raising=False)
    monkeypatch.chdir(tmp_path)
    predictor = Predictor.from_pretrained(folder)
    for call in (
        lambda: predictor.save_pretrained(tmp_path / "new"),
        lambda: predictor.push_to_hub("owner/name"),
        lambda: Predictor.from_pretrained("owner/name"),
    ):
        with pytest.raises(UserError, match=r"pip install 'coupled-embedding\[hub\]'"):
            call()


# ---- the verb


@pytest.fixture
def convert(tmp_path, monkeypatch, call_verb):
    """convert(argument, ...): run the verb in tmp_path; return what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, code: int = 0) -> str:
        return call_verb("convert", *arguments, code=code)

    return run


def test_convert_writes_the_folder_and_pushes_it(convert, checkpoint, image, uploads):
    printed = convert(checkpoint, "--out", "mine", "--hub", "--push", "owner/name", "--options", "TEST.FLIP", "False")
    assert "https://huggingface.co/owner/name/commit/1" in printed
    assert sorted(path.name for path in Path("mine").iterdir()) == NAMES == sorted(uploads[0]["files"])
    expected = Predictor.from_pretrained(checkpoint, flip=False, heatmap_threshold=0.0)(image)
    assert_same(Predictor.from_pretrained("mine", heatmap_threshold=0.0)(image), expected)


@pytest.mark.bad_input
def test_convert_pushes_no_single_file_and_overwrites_nothing(convert, checkpoint, uploads):
    assert "give --hub" in convert(checkpoint, "--out", "a.safetensors", "--push", "owner/name", code=2)
    Path("taken").mkdir()
    assert "taken exists; delete it first" in convert(checkpoint, "--out", "taken", "--hub", code=2)
    assert uploads == []
