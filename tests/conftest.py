"""Folders with recorded numbers and real images; who sees GPUs; the rule that CI skips nothing it could run."""

import importlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from yacs.config import CfgNode

from coupled_embedding.config import load_config
from synthetic_crowd import CrowdSettings, write_dataset

CHECKOUT = Path(__file__).resolve().parents[1]
REFERENCE = Path(os.environ.get("CE_REFERENCE", CHECKOUT.parent / "shared" / "reference"))
REAL = Path(os.environ.get("CE_REAL", CHECKOUT.parent / "shared" / "real"))
IMAGES = Path(os.environ.get("CE_PHOTOS", CHECKOUT.parent / "shared" / "photos"))

# a test that takes one of these arguments runs once for every file found in the reference folder
REFERENCE_CASES = {
    "state_dict_case": "state_dict/*.json",
    "forward_case": "parity/forward_*.npz",
    "losses_case": "parity/losses_*.npz",
    "targets_case": "parity/targets_*.npz",
    "train_transform_case": "parity/train_transform_*.npz",
    "decode_case": "parity/decode_*.npz",
    "end_to_end_case": "end_to_end/*.npz",
    "baseline_state_dict_case": "baselines/*_state_dict.json",
    "baseline_forward_case": "baselines/*_forward.npz",
    "baseline_losses_case": "baselines/*_losses_*.npz",
    "baseline_decode_case": "baselines/*_decode_*.npz",
}
# the only reasons for which CI may skip
SKIPS_ALLOWED_IN_CI = ("needs a GPU", "needs crowdposetools", "needs Chromium")


def selects_gpu_tests_only(expression: str) -> bool:
    """Return whether a -m expression such as "gpu and not slow" selects GPU tests and no others.

    One with parentheses is taken for one that does not.
    """
    alternatives = re.split(r"\bor\b", expression)
    return "(" not in expression and all(re.search(r"(?<!not )\bgpu\b", part) for part in alternatives)


def pytest_configure(config: pytest.Config) -> None:
    # before CUDA starts, and for the processes that tests start; all other tests expect the CPU
    if not selects_gpu_tests_only(config.option.markexpr):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for item in items:
        mark = item.get_closest_marker("gpu")
        ranks = mark.kwargs.get("ranks", 1) if mark else 0
        if ranks > found:
            needed = "needs a GPU" if ranks == 1 else f"needs a GPU for each of {ranks} ranks"
            item.add_marker(pytest.mark.skip(f"{needed}, and -m gpu to see it"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for name, pattern in REFERENCE_CASES.items():
        if name in metafunc.fixturenames:
            paths = sorted(REFERENCE.glob(pattern))
            missing = pytest.param(None, marks=pytest.mark.skip(f"no {pattern} in {REFERENCE} (see CE_REFERENCE)"))
            metafunc.parametrize(name, paths or [missing], ids=[path.stem for path in paths] or ["none"])


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr)
        if not any(allowed in reason for allowed in SKIPS_ALLOWED_IN_CI):
            _unexpected_skips.append(f"{report.nodeid}: {reason}")


_unexpected_skips: list[str] = []


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _unexpected_skips and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in _unexpected_skips:
        terminalreporter.write_line(f"CI must not skip: {line}", red=True)


def _folder(path: Path, variable: str) -> Path:
    if not path.is_dir():
        pytest.skip(f"no folder {path} (see {variable})")
    return path


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    return _folder(REFERENCE, "CE_REFERENCE")


@pytest.fixture(scope="session")
def images_dir() -> Path:
    return _folder(IMAGES, "CE_PHOTOS")


@pytest.fixture(scope="session")
def real_dir() -> Path:
    """Converted weights with their recorded outputs, and real training images."""
    return _folder(REAL, "CE_REAL")


@pytest.fixture(scope="session")
def checkout() -> Path:
    return CHECKOUT


@pytest.fixture(scope="session")
def host_traffic() -> ModuleType:
    """What makes a host wait for its device, see tests/helpers/host_traffic.py."""
    return importlib.import_module("host_traffic")


@pytest.fixture
def write_video(tmp_path: Path) -> Callable[..., Path]:
    """write_video(name, grays or frames, rate): a small video, of frames of one gray each or of given pixels."""

    def write(name: str, frames: list[Any], rate: float = 10, size: tuple[int, int] = (96, 64)) -> Path:
        pixels = [np.full((size[1], size[0], 3), one, np.uint8) if isinstance(one, int) else one for one in frames]
        code = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(tmp_path / name), code, rate, pixels[0].shape[1::-1])
        for one in pixels:
            writer.write(one)
        writer.release()
        return tmp_path / name

    return write


TINY = """
DATASET: {SCHEMA: datasets/synthetic.yaml, TRAIN: train, VAL: val, TEST: test, INPUT_SIZE: 64}
SYNTHETIC: {WIDTH: 96, HEIGHT: 96, TRAIN_SCENES: 10, VAL_SCENES: 3, TEST_SCENES: 5}
MODEL: {WIDTH: 4, STEM_WIDTH: 8, STEM_BLOCKS: 1, STAGE_MODULES: [1, 1, 1], STAGE_BLOCKS: 1, HEAD_BLOCKS: 1, TAG_DIM: 4}
TRAIN: {IMAGES_PER_GPU: 4, DROP_LAST: False, EPOCHS: 2, WARMUP_STEPS: 2, WORKERS: 0, LOG_EVERY: 2,
        VISUALIZE_EVERY: 3, EVAL_EVERY: 1}
TEST: {WORKERS: 0, OVERLAYS: 1}
"""


@pytest.fixture(scope="session")
def tiny_crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered crowd of a few small scenes."""
    root = tmp_path_factory.mktemp("crowd")
    for split, count in (("train", 10), ("val", 3), ("test", 5)):
        write_dataset(root, split, CrowdSettings(96, 96, 1, 10), 7, count)
    return root


@pytest.fixture(scope="session")
def tiny_text() -> str:
    """The text of the tiny config."""
    return TINY


@pytest.fixture
def tiny_file(tmp_path: Path, tiny_crowd: Path) -> Path:
    """A config file of a network that trains in a second."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture
def tiny(tiny_file: Path, tiny_crowd: Path, tmp_path: Path) -> Callable[..., CfgNode]:
    """tiny(name, KEY, VALUE, ...): the tiny config, whose run goes to tmp_path/out/name."""

    def build(name: str, *overrides: str) -> CfgNode:
        fixed = ["NAME", name, "OUTPUT_DIR", str(tmp_path / "out"), "DATASET.ROOT", str(tiny_crowd)]
        return load_config(tiny_file, [*fixed, *overrides])

    return build


@pytest.fixture
def call_verb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """call_verb(word, ..., code=0): run the console script, which must exit with the code; return what it printed."""
    from coupled_embedding.cli import main

    def call(*words: object, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["coupled-embedding", *map(str, words)])
        monkeypatch.setattr(sys, "path", list(sys.path))
        try:
            main()
            exited: object = 0
        except SystemExit as error:
            exited = error.code
        printed = capsys.readouterr()
        assert exited == code, printed.err
        return printed.out + printed.err

    return call
