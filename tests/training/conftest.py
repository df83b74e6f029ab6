import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from yacs.config import CfgNode

from coupled_embedding.config import load_config
from coupled_embedding.data.synthetic import CrowdSettings, write_dataset

TINY = """
DATASET: {SCHEMA: datasets/synthetic.yaml, TRAIN: train, VAL: val, TEST: test, INPUT_SIZE: 64}
SYNTHETIC: {WIDTH: 96, HEIGHT: 96, TRAIN_SCENES: 10, VAL_SCENES: 3, TEST_SCENES: 5}
MODEL: {WIDTH: 4, STEM_WIDTH: 8, STEM_BLOCKS: 1, STAGE_MODULES: [1, 1, 1], STAGE_BLOCKS: 1, HEAD_BLOCKS: 1, TAG_DIM: 4}
TRAIN: {IMAGES_PER_GPU: 4, EPOCHS: 2, WARMUP_STEPS: 2, WORKERS: 0, LOG_EVERY: 2, PICTURES_EVERY: 3, EVAL_EVERY: 1}
TEST: {WORKERS: 0, OVERLAYS: 1}
"""


@pytest.fixture(scope="session")
def tiny_crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered crowd of a few small scenes."""
    root = tmp_path_factory.mktemp("crowd")
    for split, count in (("train", 10), ("val", 3), ("test", 5)):
        write_dataset(root, split, CrowdSettings(96, 96, 1, 10), 7, count)
    return root


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
def python() -> str:
    return sys.executable
