"""A training on several data sets: joints by name, weights, pseudo labels, pasted people; stopped and resumed."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from cutout_files import person, rectangle, write_cutouts
from runs import train_config as run
from yacs.config import CfgNode

from coupled_embedding.builders import build_schema, build_train_dataset, load_model
from coupled_embedding.builders.parts import build_mixed_data, build_train_records
from coupled_embedding.config import load_config
from coupled_embedding.data.dataset import SampleKey, TrainDataset
from coupled_embedding.data.io.data_errors import DataErrorPolicy
from coupled_embedding.engine.checkpointer import list_checkpoints
from coupled_embedding.utils.errors import DatasetError, UserError

Tiny = Callable[..., CfgNode]
JOINTS = ["right_wrist", "left_wrist", "right_shoulder", "left_shoulder", "tail"]


def write_schema(folder: Path, name: str, joints: list[str], images: Path, **fields: object) -> Path:
    content = {"name": name, "joints": joints, "flip_pairs": [], "skeleton": [], "sigmas": [0.08] * len(joints)}
    splits = {"train": {"annotations": "train.json", "images": str(images)}}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**content, "root": str(folder), "splits": splits, **fields}))
    return path


@pytest.fixture
def other(tmp_path: Path, tiny_crowd: Path) -> Path:
    """A schema of the tiny crowd's images with a few of their joints, in another order, and scores of a program."""
    content = json.loads((tiny_crowd / "json" / "synthetic_train.json").read_text())
    names = content["categories"][0]["keypoints"]
    order = [names.index(name) if name in names else None for name in JOINTS]
    rng = np.random.default_rng(0)
    for number, annotation in enumerate(content["annotations"]):
        joints = np.reshape(annotation["keypoints"], (-1, 3)).tolist()
        annotation["keypoints"] = [v for place in order for v in ([0, 0, 0] if place is None else joints[place])]
        annotation |= {"score": 0.1 if number % 5 == 0 else 0.9, "keypoint_scores": rng.uniform(0, 1, 5).tolist()}
    content["categories"][0] |= {"keypoints": JOINTS, "skeleton": []}
    (tmp_path / "train.json").write_text(json.dumps(content))
    images, midpoints = tiny_crowd / "images", {"neck": ["left_shoulder", "right_shoulder"]}
    return write_schema(tmp_path, "other", JOINTS, images, midpoints=midpoints)


@pytest.fixture
def mixed(tiny: Tiny, other: Path, tiny_crowd: Path, tmp_path: Path) -> Tiny:
    """mixed(name, KEY, VALUE, ...): the tiny config with two further data sets, and people to paste."""
    parts = [
        {"schema": str(other), "split": "train", "weight": 0.5},
        {"schema": "datasets/synthetic.yaml", "split": "val", "weight": 2, "root": str(tiny_crowd)},
    ]
    people = [person(*rectangle(color=(0, 0, 255)), scores=(0.9, 0.2, 0.4)), person(*rectangle(color=(0, 255, 0)))]
    cutouts = write_cutouts(tmp_path / "people.json", people, ("head", "left_wrist", "right_wrist"))
    options = ["DATASET.MIX", json.dumps(parts), "DATASET.MIN_SCORE", "0.2", "DATASET.FULL_SCORE", "0.5"]
    options += ["AUGMENT.PASTE", str(cutouts), "AUGMENT.PASTE_PROBABILITY", "1.0", "TRAIN.VISUALIZE_EVERY", "0"]
    return lambda name, *overrides: tiny(name, *options, *overrides)


def dataset_of(cfg: CfgNode) -> TrainDataset:
    schema, policy = build_schema(cfg), DataErrorPolicy()
    records, parts = build_train_records(cfg, schema, policy), build_mixed_data(cfg, schema, policy)
    return build_train_dataset(cfg, records, schema, (4,), policy, parts)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


def test_it_trains_and_says_what_is_mixed_in(mixed: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run(mixed("mixed", "TRAIN.IMAGES_PER_GPU", "3"))
    printed = capsys.readouterr().out
    assert "mixed in: other train, 10 images, weight 0.5\n" in printed
    assert "mixed in: synthetic val, 3 images, weight 2\n" in printed
    assert "mixed: 23 images with" in printed
    # an epoch has 10 + 10 / 2 + 2 · 3 images
    assert "14 steps of 3 images" in printed
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss/total"] for line in lines if "loss/total" in line]
    assert losses
    assert np.isfinite(losses).all()
    assert load_config(folder / "config.yaml") == mixed("mixed", "TRAIN.IMAGES_PER_GPU", "3")
    assert load_model(folder / "final.pth").cfg.DATASET.MIX == mixed("mixed").DATASET.MIX


@pytest.mark.parametrize("kept", [1, 2])
def test_resuming_equals_never_having_stopped(mixed: Tiny, kept: int) -> None:
    quick = ("DATASET.VAL", "''", "TRAIN.SAVE_STEPS", "4", "TRAIN.KEEP", "9")
    whole, first = run(mixed("whole", *quick)), run(mixed("parts", *quick))
    (first / "final.pth").unlink()
    checkpoints = list_checkpoints(first)
    assert len(checkpoints) > 2
    for path in checkpoints[kept:]:
        path.unlink()
    resumed = run(mixed("parts", *quick), resume="auto")
    expected, found = weights(whole / "final.pth"), weights(resumed / "final.pth")
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_resumed_run_has_the_same_data_sets(mixed: Tiny) -> None:
    run(mixed("kept", "DATASET.VAL", "''", "TRAIN.EPOCHS", "1"))
    with pytest.raises(UserError, match=r"DATASET\.MIX: \[\{.*\}\] before, \[\] now"):
        run(mixed("kept", "DATASET.VAL", "''", "TRAIN.EPOCHS", "1", "DATASET.MIX", "[]"), resume="auto")


def test_records_have_the_first_data_sets_joints(mixed: Tiny) -> None:
    cfg = mixed("records")
    dataset, joints = dataset_of(cfg), build_schema(cfg).joints
    assert dataset.weights is not None
    assert dataset.weights.tolist() == [1.0] * 10 + [0.5] * 10 + [2.0] * 3
    own, other = dataset.records[:10], dataset.records[10:20]
    assert all(record.annotated is None and record.confidence is None for record in (*own, *dataset.records[20:]))
    labelled = {*JOINTS, "neck"}
    ignored = 0
    for record, first in zip(other, own, strict=True):
        assert record.path == first.path
        assert record.annotated is not None
        assert record.confidence is not None
        assert [name in labelled for name in joints] == record.annotated.tolist()
        assert record.confidence.max() <= 1
        # those who are left are the first's people, but for the joints that no data set labels
        for keypoints, number in zip(record.keypoints, record.ids, strict=True):
            wrist = joints.index("left_wrist")
            np.testing.assert_array_equal(keypoints[wrist], first.keypoints[first.ids.index(number), wrist])
        ignored += len(first.keypoints) - len(record.keypoints)
    assert ignored > 0


def test_images_of_equal_weight_need_none(mixed: Tiny, other: Path) -> None:
    cfg = mixed("equal", "DATASET.MIX", json.dumps([{"schema": str(other), "split": "train"}]))
    assert dataset_of(cfg).weights is None


def test_people_are_pasted_as_often_as_the_config_says(mixed: Tiny) -> None:
    always, never = dataset_of(mixed("a")), dataset_of(mixed("b", "AUGMENT.PASTE_PROBABILITY", "0.0"))
    without = dataset_of(mixed("c", "AUGMENT.PASTE", "''"))
    assert without.copy_paste is None
    shares: set[float] = set()
    for image in range(20):
        key = SampleKey(0, image, 1)
        pasted, bare = always.sample(key), never.sample(key)
        assert np.array_equal(bare.joints[0], without.sample(key).joints[0])
        count, more = ((sample.scales > 0).sum() for sample in (bare, pasted))
        assert 1 <= more - count <= 3
        # their scores as a share of DATASET.FULL_SCORE count where the image's own joints have weights
        assert (pasted.confidence is None) == (image < 10)
        if pasted.confidence is not None:
            shares |= set(pasted.confidence[count:more].round(3).ravel().tolist())
    assert {round(share, 1) for share in shares} == {0, 0.4, 0.8, 1}


def test_a_split_that_results_are_reported_on_is_said_to_be_one(
    tiny: Tiny, tiny_crowd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = {"schema": "datasets/synthetic.yaml", "split": "test", "root": str(tiny_crowd)}
    run(tiny("held", "DATASET.MIX", json.dumps([part]), "DATASET.VAL", "''", "TRAIN.EPOCHS", "1"))
    printed = capsys.readouterr().out
    assert "mixed in: synthetic test, 5 images, weight 1\n" in printed
    assert "warning: training on 'test', which results of synthetic are reported on\n" in printed


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"split": "val"}, r"'other' has no split 'val'; its schema lists train"),
        ({"schema": "nowhere.yaml"}, r"nowhere\.yaml: cannot read this data set schema"),
        ({"root": "/nowhere"}, r"/nowhere/train\.json: no such annotation file"),
    ],
)
def test_what_is_wrong_with_a_data_set_to_mix_in_is_named(
    tiny: Tiny, other: Path, changes: dict[str, str], text: str
) -> None:
    part = {"schema": str(other), "split": "train"} | changes
    with pytest.raises(DatasetError, match=text):
        run(tiny("wrong", "DATASET.MIX", json.dumps([part])))


def test_a_data_set_of_other_joints_cannot_be_mixed_in(tiny: Tiny, tmp_path: Path, tiny_crowd: Path) -> None:
    content = json.loads((tiny_crowd / "json" / "synthetic_train.json").read_text())
    (tmp_path / "train.json").write_text(json.dumps({"images": content["images"], "annotations": []}))
    schema = write_schema(tmp_path, "animals", ["hoof", "horn"], tiny_crowd / "images")
    part = json.dumps([{"schema": str(schema), "split": "train"}])
    with pytest.raises(DatasetError, match="'animals' and 'synthetic' cannot be mixed: no joint of one"):
        run(tiny("wrong", "DATASET.MIX", part))
