"""The commands on a data set with broken images: what they print and how they end."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.bad_input

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(capsys, monkeypatch):
    """Run a command in this process; return what it printed."""

    def main(tool: str, *arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", [tool, *arguments])
        ended = 0
        try:
            runpy.run_path(str(CHECKOUT / "tools" / tool), run_name="__main__")
        except SystemExit as error:
            ended = int(error.code or 0)
        printed = "".join(capsys.readouterr())
        assert ended == code, printed
        return printed

    return main


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, tiny_crowd: Path, tiny_text: str) -> Path:
    """A folder with tiny.yaml and a tiny crowd of which four training images and a test image are cut."""
    folder = tmp_path_factory.mktemp("broken")
    shutil.copytree(tiny_crowd, folder / "crowd")
    for split, numbers in (("train", (0, 3, 6, 9)), ("test", (1,))):
        content = json.loads((folder / f"crowd/json/synthetic_{split}.json").read_text())
        for number in numbers:
            path = folder / "crowd/images" / content["images"][number]["file_name"]
            path.write_bytes(path.read_bytes()[:-40])
    (folder / "tiny.yaml").write_text(tiny_text)
    return folder


def options(folder: Path, *more: str) -> list[str]:
    return ["NAME", "tiny", "OUTPUT_DIR", str(folder / "out"), "DATASET.ROOT", str(folder / "crowd"), *more]


@pytest.fixture(scope="module")
def trained(broken: Path) -> str:
    """What two ranks printed that trained on it."""
    more = ("TRAIN.IMAGES_PER_GPU", "2", "DATASET.VAL", "", "TRAIN.WORKERS", "1")
    tool = [sys.executable, str(CHECKOUT / "tools/train.py"), "--cfg", str(broken / "tiny.yaml")]
    command = [*tool, "--gpus", "2", "--device", "cpu", *options(broken, *more)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, env=environment, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.distributed
def test_two_ranks_train_on_and_report_the_images_of_both_once(broken: Path, trained: str) -> None:
    # ten images by two ranks of two: each of them in every epoch
    for epoch, new in ((1, ""), (2, ", 0 of them new")):
        assert f"epoch {epoch}: images that cannot be read, others in their places: 4{new}\n" in trained
    assert trained.count("the file ends before its image data does") == 4
    log = json.loads((broken / "out/tiny/invalid_data.json").read_text())
    assert log["count"] == len({issue["file"] for issue in log["issues"]}) == 4


@pytest.mark.distributed
def test_testing_refuses_a_broken_image_or_reports_it_and_draws_the_others(broken: Path, trained: str, run) -> None:
    data = ("--cfg", str(broken / "tiny.yaml"), *options(broken))
    assert "error: " in (refused := run("test.py", *data, code=2))
    assert "the file ends before its image data does" in refused
    printed = run("test.py", *data, "DATASET.ON_INVALID", "skip", "TEST.OVERLAYS", "9")
    assert "invalid images and annotations, skipped: 1\n" in printed
    folder = broken / "out/tiny/test_test"
    assert (folder / "invalid_data.json").is_file()
    assert len(list(folder.glob("worst_*.jpg"))) == 4


@pytest.mark.distributed
def test_the_demo_goes_on_behind_a_broken_image_if_asked_to(broken: Path, trained: str, run, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    valid = json.loads((broken / "crowd/json/synthetic_val.json").read_text())["images"][0]["file_name"]
    shutil.copy(broken / "crowd/images" / valid, tmp_path / "images" / "valid.jpg")
    (tmp_path / "images" / "broken.jpg").write_bytes(b"")
    data = ("--weights", str(broken / "out/tiny/final.pth"), "--out", str(tmp_path / "out"), str(tmp_path / "images"))
    assert "broken.jpg: not an image" in run("demo.py", *data, code=2)
    printed = run("demo.py", *data, "--options", "DATASET.ON_INVALID", "skip")
    assert "images that cannot be read: 1\n" in printed
    assert list(json.loads((tmp_path / "out/people.json").read_text())) == [str(tmp_path / "images/valid.jpg")]
    nowhere = str(tmp_path / "images/broken.jpg")
    printed = run("demo.py", *data[:2], "--out", nowhere, nowhere, "--options", "DATASET.ON_INVALID", "skip", code=2)
    assert f"{nowhere}/people.json: cannot write the people" in printed


def test_the_check_ends_with_0_1_or_2(broken: Path, tmp_path: Path, run) -> None:
    data = ("--cfg", str(broken / "tiny.yaml"), "DATASET.ROOT", str(broken / "crowd"), "--out", str(tmp_path / "out"))
    printed = run("check_dataset.py", *data, "--split", "train", code=1)
    assert "images that cannot be read: 4\n" in printed
    assert json.loads((tmp_path / "out/check.json").read_text())["images_read"] == 10
    assert (tmp_path / "out/check.png").stat().st_size > 10_000
    assert "clean: nothing found" in run("check_dataset.py", *data, "--split", "train", "--annotations-only")
    schema = ("--schema", "datasets/synthetic.yaml", "--root", str(tmp_path))
    assert "no such annotation file" in run("check_dataset.py", *schema, "--split", "train", code=2)
