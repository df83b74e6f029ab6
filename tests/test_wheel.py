"""A wheel has all that the checkout's commands need: configs, schemas, cards, the shipped models, the commands."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from runs import untrained_checkpoint

from coupled_embedding.builders import load_model, save_model
from coupled_embedding.config import load_config

CHECKOUT = Path(__file__).resolve().parents[1]
NEEDED = ("config", "datasets/*.yaml", "lib", "models", "pretrained/*.yaml", "tools", "*.py", "*.toml", "*.txt", "*.in")


def run(root: Path, *command: str) -> str:
    """Run a command with the installed package, in a folder that holds nothing; return what it printed."""
    (root / "work").mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(root / "site"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root / "work", timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tiny_text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose site/ holds the package installed from a wheel of a copy of the checkout, with a model to ship."""
    root = tmp_path_factory.mktemp("wheel")
    folder = root / "checkout"
    for pattern in NEEDED:
        for path in CHECKOUT.glob(pattern):
            target = folder / path.relative_to(CHECKOUT)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "*.pth"))
            else:
                shutil.copy(path, target)
    (root / "shipped.yaml").write_text(tiny_text)
    weights = untrained_checkpoint(load_config(root / "shipped.yaml"), root / "shipped.pth")
    save_model(folder / "models/shipped.safetensors", load_model(weights))
    pip = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
    run(root, *pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(root), str(folder))
    (wheel,) = root.glob("*.whl")
    run(root, *pip, "install", "--no-deps", "--target", str(root / "site"), str(wheel))
    shutil.rmtree(folder)
    return root


LOAD = """
from pathlib import Path
from coupled_embedding.config import load_config
from coupled_embedding.data.coco import dataset_root
from coupled_embedding.data.schema import load_schema
from coupled_embedding.predictor import Predictor
from coupled_embedding.zoo.cards import find_card

import coupled_embedding
print("package", coupled_embedding.__file__)
print("size", Predictor.from_pretrained("shipped").input_size)
print("config", load_config(find_card("coco_ce_hrnet_w32_512").config).NAME)
print("page", (Path(coupled_embedding.__file__).parent / "serve/page/index.html").is_file())
print("data", dataset_root(load_schema("datasets/synthetic.yaml"), ""))
"""


@pytest.mark.slow
def test_a_wheel_has_models_configs_schemas_and_cards(installed):
    printed = dict(line.split(" ", 1) for line in run(installed, sys.executable, "-c", LOAD).splitlines())
    assert printed["package"].startswith(str(installed / "site"))
    assert printed["size"] == "64"
    assert printed["page"] == "True"
    assert printed["config"] == "coco_ce_hrnet_w32_512"
    # data belongs to the user's folder, not into the installed package
    assert printed["data"] == "datasets/synthetic"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "option"), [("predict", "--min-score"), ("train", "--resume"), ("test", "--split"), ("serve", "--port")]
)
def test_a_wheel_has_the_verbs(installed, verb, option):
    assert option in run(installed, sys.executable, str(installed / "site/bin/coupled-embedding"), verb, "--help")
