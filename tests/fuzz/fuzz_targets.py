"""What is fuzzed: who reads which hostile file, and what the reader owes in return.

Every reader either accepts a file or raises a UserError whose text names the file. Nothing else
may be raised or written.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
import yaml
from fuzz_animals import annotations, results, small_schema
from fuzz_mutations import VALUES, change_bytes, json_file, yaml_file
from fuzz_weights import (
    backbone_content,
    hostile_numbers,
    hostile_weights,
    own_content,
    released_content,
    tiny_network,
)

from coupled_embedding.builders import build_model, build_pipeline_options, load_model
from coupled_embedding.config import (
    config_from_dict,
    config_to_dict,
    config_to_yaml,
    default_config,
    load_config,
)
from coupled_embedding.data.coco import join_annotations, load_records
from coupled_embedding.data.images import read_image, read_image_for_warp
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import load_schema, schema_from_dict
from coupled_embedding.decode.pipeline import InferencePipeline
from coupled_embedding.engine.checkpointer import read_resumable, write_checkpoint
from coupled_embedding.evaluation import load_ground_truth, read_results, score_results
from coupled_embedding.networks.building import build_on_meta
from coupled_embedding.networks.weights import initialize, load_backbone, load_network
from coupled_embedding.predictor import Predictor
from coupled_embedding.utils.errors import UserError

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Target:
    """A reader and its hostile files.

    Attributes:
        name: in the table.
        write: writes a file for the reader into an empty folder; returns the reader's arguments.
        read: the reader.
        named: of these texts an error must hold one.
        warm: run once before the inputs are timed.
        cost: how much longer one input takes than most; the command gives it fewer of them.
    """

    name: str
    write: Callable[[Random, Path], tuple[Any, ...]]
    read: Callable[..., Any]
    named: tuple[str, ...] = ("hostile",)
    warm: Callable[[Path], Any] | None = None
    cost: int = 1


def attempt(target: Target, arguments: tuple[Any, ...], folder: Path) -> str:
    """Let a target read what it wrote into a folder; return "accepted" or "refused".

    Raises:
        AssertionError: the error does not name the file, or something was written.
        Exception: whatever else the reader raised.
    """
    before = sorted(folder.rglob("*"))
    try:
        target.read(*arguments)
        text = None
    except UserError as error:
        text = str(error)
    assert sorted(folder.rglob("*")) == before, "something was written"
    assert not Path("owned").exists(), "code was run"
    if text is None:
        return "accepted"
    assert any(name in text for name in target.named), f"the error names no file: {text[:300]}"
    assert len(text) < 100_000, f"the error is {len(text)} characters long"
    return "refused"


# ---- configs and schemas


def _write_config(random: Random, folder: Path) -> tuple[Any, ...]:
    tree = config_to_dict(default_config())
    tree = {key: value for key, value in tree.items() if random.random() < 0.5} or {"SEED": 3}
    for number in range(3):
        base = ["hostile_0.yaml", "hostile_1.yaml", "hostile_2.yaml", "hostile.yaml", "\0", "x" * 300, ".", "/dev/zero"]
        bases = random.choices(base, weights=[8, 8, 8, 1, 1, 1, 1, 1], k=random.choice([1, 1, 2, 40]))
        own = {"_BASE_": bases, "SEED": number} if random.random() < 0.3 else {"SEED": number}
        (folder / f"hostile_{number}.yaml").write_bytes(yaml.safe_dump(own).encode())
    if random.random() < 0.5:
        tree = {"_BASE_": random.choice(["hostile_0.yaml", ["hostile_0.yaml", "hostile_1.yaml"], *VALUES[:8]]), **tree}
    keys = ["NAME", "OUTPUT_DIR", "SEED", "TRAIN", "TEST", "_BASE_", "DATASET", "X"]
    (folder / "hostile.yaml").write_bytes(yaml_file(random, tree, keys))
    return (folder / "hostile.yaml",)


def _read_config(path: Path) -> None:
    cfg = load_config(path)
    assert config_to_dict(config_from_dict(yaml.safe_load(config_to_yaml(cfg)), "again")) == config_to_dict(cfg)
    assert "/" not in cfg.NAME
    assert cfg.NAME not in (".", "..")


def _write_overrides(random: Random, folder: Path) -> tuple[Any, ...]:
    keys = [
        "NAME",
        "SEED",
        "TRAIN.LR",
        "TEST.SCALES",
        "DATASET.IMAGE_IDS",
        "MODEL.HEAD",
        "TRAIN",
        "",
        ".",
        "A.B" * 9,
        "X" * 999,
    ]
    pairs = [random.choice(keys)]
    pairs.append(yaml_file(random, {"a": random.choice(VALUES[:12])}, ["x"]).decode("utf-8", "replace"))
    if random.random() < 0.3:
        pairs = random.choice(
            [["SEED", "3"], ["NAME", "run..1"], ["TEST.SCALES", "[1, 2]"], ["NAME", "../x"], ["NAME", "."]]
        )
    return ([*pairs, "SEED"] if random.random() < 0.05 else pairs,)


def _write_schema(random: Random, folder: Path) -> tuple[Any, ...]:
    tree = yaml.safe_load((CHECKOUT / "datasets/crowdpose.yaml").read_text())
    (folder / "hostile.yaml").write_bytes(yaml_file(random, tree, list(tree)))
    return (folder / "hostile.yaml",)


def _read_schema(path: Path) -> None:
    schema = load_schema(path)
    assert schema_from_dict(schema.to_dict(), "again") == schema
    assert "/" not in "".join((schema.name, *schema.splits))


# ---- results and annotations


def _write_results(random: Random, folder: Path) -> tuple[Any, ...]:
    (folder / "hostile.json").write_bytes(json_file(random, results()))
    (folder / "truth.json").write_text(json.dumps(annotations()))
    return folder / "hostile.json", folder / "truth.json", random.choice(["coco", "crowdpose"])


def _read_results(path: Path, truth: Path, evaluator: str) -> None:
    schema = small_schema(path.parent, evaluator)
    found = read_results(path, schema)
    score_results(load_ground_truth(truth, schema), found, schema)


def _write_annotations(random: Random, folder: Path) -> tuple[Any, ...]:
    (folder / "hostile.json").write_bytes(json_file(random, annotations()))
    (folder / "other.json").write_text(json.dumps({**annotations(), "images": [], "annotations": []}))
    return folder / "hostile.json", random.choice(["coco", "crowdpose"])


def _read_truth(path: Path, evaluator: str) -> None:
    schema = small_schema(path.parent, evaluator)
    truth = load_ground_truth(path, schema)
    found = [result for result in results() if result["image_id"] in truth.known_ids]
    score_results(truth, [{**result, "category_id": truth.categories.result} for result in found], schema)


def _read_records(path: Path, evaluator: str) -> None:
    for record in load_records(small_schema(path.parent, evaluator), "all"):
        # a mask of the annotated size is made when its image, of the same size, has been read
        if record.width * record.height < 10**6:
            record.valid_mask()


def _join(path: Path, evaluator: str) -> None:
    json.dumps(join_annotations([path.parent / "other.json", path]))


# ---- weights


def _write_weights(content: Callable[[], dict[str, Any]]) -> Callable[[Random, Path], tuple[Any, ...]]:
    made: list[dict[str, Any]] = []

    def write(random: Random, folder: Path) -> tuple[Any, ...]:
        made[:] = made or [content()]
        (folder / "hostile.pth").write_bytes(hostile_weights(random, made[0], folder))
        return (folder / "hostile.pth",)

    return write


def _read_model(path: Path) -> None:
    model = load_model(path)
    assert model.cfg.OUTPUT_DIR == default_config().OUTPUT_DIR
    assert "/" not in model.cfg.NAME
    read_resumable(path)


def _read_released(path: Path) -> None:
    _, cfg, schema = tiny_network()
    load_network(build_on_meta(lambda: build_model(cfg, schema.num_joints)), path)


def _read_backbone(path: Path) -> None:
    load_backbone(tiny_network()[0], path)


def _read_start(path: Path) -> None:
    network, _, schema = tiny_network()
    initialize(network, schema, init_from=str(path), init_schema="datasets/coco.yaml")


def _write_numbers(random: Random, folder: Path) -> tuple[Any, ...]:
    write_checkpoint(hostile_numbers(random), folder / "hostile.pth")
    image = np.random.RandomState(random.randint(0, 9)).randint(0, 256, (90, 120, 3)).astype(np.uint8)
    return folder / "hostile.pth", image


def _run_valid(folder: Path) -> None:
    write_checkpoint(own_content(), folder / "valid.pth")
    _predict(folder / "valid.pth", np.zeros((90, 120, 3), np.uint8))


def _predict(path: Path, image: np.ndarray) -> None:
    model = load_model(path)
    pipeline = InferencePipeline(model.network, build_pipeline_options(model.cfg, model.schema))
    poses = Predictor(pipeline, model.schema, model.cfg.DATASET.INPUT_SIZE)(image)
    poses.to_coco(1)
    poses.to_json()
    poses.draw(image)


# ---- images

_KINDS = [".jpg", ".png", ".bmp", ".webp", ".tif", ".ppm"]


def _write_image(random: Random, folder: Path) -> tuple[Any, ...]:
    y, x = np.mgrid[0:40, 0:60]
    image = np.stack([4 * x, 6 * y, 255 - 2 * x - 2 * y], 2).astype(np.uint8)
    done, data = cv2.imencode(random.choice(_KINDS), image)
    assert done
    (folder / "hostile.jpg").write_bytes(change_bytes(random, data.tobytes()))
    return folder / "hostile.jpg", random.choice([1.0, 2.5, 9.0])


def _read_image(path: Path, shrink: float) -> None:
    read_image(path)
    record = ImageRecord(1, path, 60, 40, np.zeros((0, 3, 3), np.float32), np.zeros((0, 4), np.float32))
    read_image_for_warp(record, shrink)


TARGETS = (
    Target("config file", _write_config, _read_config, cost=2),
    Target("config overrides", _write_overrides, lambda pairs: load_config(None, pairs), ("the command line",)),
    Target("data set schema", _write_schema, _read_schema),
    Target("results file, read and scored", _write_results, _read_results, ("hostile", "results: entry")),
    Target("annotations, for scoring", _write_annotations, _read_truth, ("hostile",)),
    Target("annotations, for training", _write_annotations, _read_records, ("hostile", ".jpg")),
    Target("annotations, to join", _write_annotations, _join),
    Target("checkpoint", _write_weights(own_content), _read_model, cost=3),
    Target("released weights", _write_weights(released_content), _read_released, cost=3),
    Target("ImageNet backbone", _write_weights(backbone_content), _read_backbone, cost=3),
    Target("weights to start from", _write_weights(own_content), _read_start, cost=3),
    Target(
        "network with hostile numbers, run",
        _write_numbers,
        _predict,
        ("hostile", "the network output NaN"),
        warm=_run_valid,
        cost=6,
    ),
    Target("image", _write_image, _read_image),
)
