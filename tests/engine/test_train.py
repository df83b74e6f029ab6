import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from runs import train_config as run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from yacs.config import CfgNode

from coupled_embedding.builders import load_model
from coupled_embedding.config import load_config
from coupled_embedding.engine.checkpointer import list_checkpoints
from coupled_embedding.optim.ema import MovingAverage
from coupled_embedding.utils.errors import UserError

Tiny = Callable[..., CfgNode]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def test_a_run_leaves_everything_needed(tiny: Tiny) -> None:
    folder = run(tiny("run"))
    assert load_config(folder / "config.yaml") == tiny("run")
    assert load_model(folder / "final.pth").metrics.keys() >= {"AP", "AP_easy", "AP_hard"}
    assert load_model(folder / "best.pth").schema.name == "synthetic"
    # 10 images by 4 make 3 steps per epoch
    assert [p.name for p in list_checkpoints(folder)] == ["checkpoint_00000003.pth", "checkpoint_00000006.pth"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {line["step"] for line in lines} == {2, 3, 4, 6}
    assert all(line["loss/total"] > 0 for line in lines if "loss/total" in line)


def test_tensorboard_has_losses_rates_tags_and_pictures(tiny: Tiny) -> None:
    folder = run(tiny("board"))
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    assert {"loss/total", "loss/pull", "train/learning_rate", "train/images_per_second"} <= scalars
    assert {"train/data_wait_share", "train/gradient_norm", "tags/effective_dimension", "val/AP"} <= scalars
    assert events.Tags()["images"] == ["batch"]


def test_the_same_seed_gives_the_same_weights(tiny: Tiny) -> None:
    assert_same(weights(run(tiny("a")) / "final.pth"), weights(run(tiny("b", "TRAIN.WORKERS", "2")) / "final.pth"))


def test_another_seed_gives_other_weights(tiny: Tiny) -> None:
    a, b = weights(run(tiny("a")) / "final.pth"), weights(run(tiny("b", "SEED", "2")) / "final.pth")
    assert any(not torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("options", [(), ("TRAIN.EMA", "0.9", "TRAIN.ACCUMULATE", "2", "TRAIN.IMAGES_PER_GPU", "2")])
def test_resuming_equals_never_having_stopped(tiny: Tiny, options: tuple[str, ...]) -> None:
    whole = run(tiny("whole", *options))
    first = run(tiny("parts", "TRAIN.KEEP", "5", *options))
    (first / "final.pth").unlink()
    list_checkpoints(first)[-1].unlink()
    resumed = run(tiny("parts", *options), resume="auto")
    assert_same(weights(whole / "final.pth"), weights(resumed / "final.pth"))
    states = [torch.load(list_checkpoints(f)[-1], weights_only=True)["training"] for f in (whole, resumed)]
    assert states[0]["best"] == states[1]["best"]
    for key, moments in states[0]["optimizer"]["state"].items():
        assert torch.equal(moments["exp_avg_sq"], states[1]["optimizer"]["state"][key]["exp_avg_sq"])


def test_a_run_is_never_overwritten(tiny: Tiny) -> None:
    folder = run(tiny("once"))
    before = (folder / "final.pth").read_bytes()
    with pytest.raises(UserError, match="already holds a run; continue it with --resume"):
        run(tiny("once"))
    assert (folder / "final.pth").read_bytes() == before


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_to_finite_weights(tiny: Tiny, precision: str) -> None:
    folder = run(tiny("half", "TRAIN.PRECISION", precision, "TRAIN.EPOCHS", "1"))
    assert all(torch.isfinite(t).all() for t in weights(folder / "final.pth").values())


def test_a_missing_backbone_is_an_error(tiny: Tiny) -> None:
    with pytest.raises(UserError, match=r"MODEL\.PRETRAINED: .*nowhere\.pth is missing"):
        run(tiny("x", "MODEL.PRETRAINED", "nowhere.pth"))


def test_training_starts_from_another_checkpoint(tiny: Tiny) -> None:
    start = run(tiny("start")) / "final.pth"
    folder = run(tiny("next", "MODEL.INIT_FROM", str(start), "TRAIN.EPOCHS", "1", "TRAIN.LR", "1e-12"))
    before, after = weights(start), weights(folder / "final.pth")
    for name in before:
        if before[name].is_floating_point() and "running" not in name:
            assert torch.allclose(before[name], after[name], atol=1e-6), name


def test_loss_falls_when_a_few_images_are_learned(tiny: Tiny) -> None:
    folder = run(
        tiny("learn", "TRAIN.EPOCHS", "40", "DATASET.VAL", "''", "AUGMENT.FLIP", "0", "TRAIN.VISUALIZE_EVERY", "0")
    )
    losses = [json.loads(line)["loss/heatmap"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.6 * losses[0]


def test_scale_maps_are_learned_and_decode_does_without_them(tiny: Tiny) -> None:
    options = ("MODEL.SCALE_MAPS", "True", "LOSS.SCALE_ADAPTED", "False", "TRAIN.VISUALIZE_EVERY", "0")
    folder = run(tiny("learn", *options, "TRAIN.EPOCHS", "16", "TRAIN.EVAL_EVERY", "16", "AUGMENT.FLIP", "0"))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss/heatmap"] for line in lines if "loss/heatmap" in line]
    assert losses[-1] < 0.8 * losses[0]
    learned = weights(folder / "final.pth")
    assert all((learned[f"head.scale_pred_layers.{i}.bias"] != 0).all() for i in range(2))
    assert "AP" in load_model(folder / "final.pth").metrics


def test_moving_average_follows_the_formula() -> None:
    layer = torch.nn.Linear(3, 2)
    average = MovingAverage(layer, 0.5)
    expected = layer.weight.detach().clone()
    for n in range(4):
        with torch.no_grad():
            layer.weight += 1
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * layer.weight.detach()
        average.update()
        assert torch.allclose(average.model.weight, expected, atol=1e-6)


def test_a_changed_option_cannot_continue_a_run(tiny: Tiny) -> None:
    folder = run(tiny("changed"))
    (folder / "final.pth").unlink()
    list_checkpoints(folder)[-1].unlink()
    with pytest.raises(
        UserError, match=r"other options; continue with the same:\n  TRAIN\.LR: 0\.0015 before, 0\.01 now"
    ):
        run(tiny("changed", "TRAIN.LR", "1e-2"), resume="auto")


def test_harmless_options_may_change(tiny: Tiny) -> None:
    folder = run(tiny("harmless"))
    list_checkpoints(folder)[-1].unlink()
    # the start weights may have gone, too
    run(tiny("harmless", "TRAIN.WORKERS", "1", "TEST.FLIP", "False", "MODEL.PRETRAINED", "gone.pth"), resume="auto")
    assert load_model(folder / "final.pth").metrics


def test_an_earlier_checkpoint_does_not_mix_with_later_ones(tiny: Tiny) -> None:
    folder = run(tiny("earlier"))
    with pytest.raises(UserError, match=r"holds newer checkpoints \(checkpoint_00000006\.pth\)"):
        run(tiny("earlier"), resume=str(list_checkpoints(folder)[0]))


def test_a_run_without_its_checkpoints_is_not_begun_again(tiny: Tiny) -> None:
    folder = run(tiny("pruned"))
    for path in list_checkpoints(folder):
        path.unlink()
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(UserError, match="already holds a run; its checkpoints are gone"):
        run(tiny("pruned"), resume="auto")
    assert before == {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_mistyped_checkpoint_is_named_beside_those_there_are(tiny: Tiny) -> None:
    run(tiny("typo"))
    with pytest.raises(
        UserError, match=r"--resume nowhere\.pth: no such checkpoint; .* holds checkpoint_00000003\.pth, c"
    ):
        run(tiny("typo"), resume="nowhere.pth")


def test_a_refused_option_leaves_the_config_as_it_was(tiny: Tiny) -> None:
    folder = run(tiny("refused"))
    before = (folder / "config.yaml").read_bytes()
    with pytest.raises(UserError, match="other options"):
        run(tiny("refused", "TRAIN.LR", "1e-2"), resume="auto")
    assert (folder / "config.yaml").read_bytes() == before


def test_restarted_processes_keep_to_the_checkpoint_they_were_given(tiny: Tiny, monkeypatch, tmp_path: Path) -> None:
    start = run(tiny("source"))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")  # before the first checkpoint of its own
    folder = run(tiny("source", "OUTPUT_DIR", str(tmp_path / "elsewhere")), resume=str(list_checkpoints(start)[0]))
    assert_same(weights(start / "final.pth"), weights(folder / "final.pth"))


def test_another_number_of_images_cannot_continue_a_run(tiny: Tiny) -> None:
    folder = run(tiny("fewer", "DATASET.VAL", "''"))
    content = torch.load(list_checkpoints(folder)[-1], weights_only=True)
    content["training"]["images"] = 9  # 3 steps per epoch too
    torch.save(content, list_checkpoints(folder)[-1])
    with pytest.raises(
        UserError, match="had 9 images, this run has 10; continue with the same number of images and ranks"
    ):
        run(tiny("fewer", "DATASET.VAL", "''"), resume="auto")


def test_resuming_a_finished_run_changes_nothing(tiny: Tiny) -> None:
    folder = run(tiny("finished"))
    before = (folder / "final.pth").read_bytes()
    run(tiny("finished"), resume="auto")
    assert (folder / "final.pth").read_bytes() == before


def test_validation_needs_annotations(tiny: Tiny, tiny_crowd: Path, tmp_path: Path) -> None:
    content = json.loads((tiny_crowd / "json/synthetic_val.json").read_text())
    root = tmp_path / "unlabelled"
    (root / "json").mkdir(parents=True)
    (root / "images").symlink_to(tiny_crowd / "images")
    for split in ("train", "val"):
        kept = ("info", "images", "categories") if split == "val" else tuple(content)
        source = json.loads((tiny_crowd / f"json/synthetic_{split}.json").read_text())
        (root / f"json/synthetic_{split}.json").write_text(json.dumps({key: source[key] for key in kept}))
    with pytest.raises(UserError, match=r"DATASET\.VAL: the split 'val' has no public annotations"):
        run(tiny("unlabelled", "DATASET.ROOT", str(root)))
