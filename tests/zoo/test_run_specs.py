"""What --cfg, --model and --protocol come to."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import pytest

from coupled_embedding.utils.errors import CheckpointError, UserError
from coupled_embedding.zoo.run_specs import RunSpec, add_model_options, check_choice, spec_of_test, spec_of_training


def asked(*overrides: str, **options: str) -> Namespace:
    return Namespace(
        **{"cfg": None, "model": None, "protocol": "validated", "weights": None, **options}, overrides=list(overrides)
    )


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_a_config_goes_through_as_it_is():
    assert spec_of_training(asked("SEED", "2", cfg="x.yaml")) == RunSpec("x.yaml", ("SEED", "2"))
    assert spec_of_test(asked("SEED", "2", cfg="x.yaml", weights="y.pth")) == RunSpec("x.yaml", ("SEED", "2"), "y.pth")
    assert spec_of_test(asked(weights="y.pth")) == RunSpec(None, (), "y.pth")


def test_a_card_trains_its_config_without_its_way_to_test(zoo):
    spec = spec_of_training(asked("TRAIN.LR", "1", model="tiny_ms"))
    assert (spec.config, spec.overrides, spec.model) == (str(zoo / "tiny.yaml"), ("TRAIN.LR", "1"), "tiny_ms")


def test_a_card_tests_with_its_options_in_a_folder_of_its_own(zoo):
    touch(zoo / "models/tiny.pth")
    info = spec_of_test(asked(model="tiny_ms")).describe()
    assert (info.name, info.options["TEST.SCALES"]) == ("tiny_ms", [2, 1])
    assert spec_of_test(asked("TEST.SCALES", "[1]", model="tiny_ms")).describe().options["TEST.SCALES"] == [1]
    assert spec_of_test(asked(model="tiny")).describe().name == "tiny"


def test_weights_are_the_zoos_else_the_runs_best_else_its_last(zoo):
    def found(*overrides: str) -> Path:
        return Path(spec_of_test(asked(*overrides, model="tiny")).weights)

    touch(zoo / "outputs/tiny/final.pth")
    assert found() == Path("outputs/tiny/final.pth")
    touch(zoo / "outputs/tiny/best.pth")
    assert found() == Path("outputs/tiny/best.pth")
    touch(zoo / "models/tiny.pth")
    assert found() == Path("models/tiny.pth")
    # a run of another name is that run, never the zoo's
    touch(zoo / "outputs/tiny_seed2/best.pth")
    assert found("NAME", "tiny_seed2") == Path("outputs/tiny_seed2/best.pth")
    assert spec_of_test(asked(model="tiny", weights="mine.pth")).weights == "mine.pth"


def test_missing_weights_are_an_error_with_every_place_and_the_command(zoo):
    with pytest.raises(CheckpointError) as caught:
        spec_of_test(asked(model="tiny"))
    for part in (
        "models/tiny.pth",
        "outputs/tiny/best.pth",
        "tools/train.py --model tiny --gpus 8",
        "tools/weights.py",
    ):
        assert part in str(caught.value)


def test_a_model_that_starts_from_another_finds_it(zoo):
    with pytest.raises(
        CheckpointError, match=r"tiny_plus starts from it.*outputs/tiny/best\.pth.*train\.py --model tiny "
    ):
        spec_of_training(asked(model="tiny_plus"))
    start = touch(zoo / "elsewhere/tiny/best.pth")
    spec = spec_of_training(asked("OUTPUT_DIR", str(zoo / "elsewhere"), model="tiny_plus"))
    assert str(start) == spec.describe().init_from
    given = spec_of_training(asked("MODEL.INIT_FROM", "mine.pth", model="tiny_plus"))
    assert given.describe().init_from == "mine.pth"


def test_the_papers_protocol_takes_a_cards_config_of_it_and_weights_of_its_own(zoo):
    card = zoo / "models/tiny.yaml"
    (zoo / "paper.yaml").write_text("_BASE_: tiny.yaml\nNAME: tiny_paper\nDATASET: {TRAIN: val, VAL: ''}\n")
    text = card.read_text().replace("trained_on: train", "trained_on: val")
    card.write_text(text)
    with pytest.raises(UserError, match=r"training on 'val', not on 'train'.*has no paper_config"):
        spec_of_training(asked(model="tiny", protocol="paper"))
    card.write_text(text + f"paper_config: {zoo / 'paper.yaml'}\n")
    assert spec_of_training(asked(model="tiny", protocol="paper")).describe().train == "val"
    touch(zoo / "models/tiny.pth")  # of the other protocol
    with pytest.raises(CheckpointError, match=r"models/tiny_paper\.pth.*--model tiny --protocol paper"):
        spec_of_test(asked(model="tiny", protocol="paper"))
    touch(zoo / "outputs/tiny_paper/final.pth")
    assert spec_of_test(asked(model="tiny", protocol="paper")).weights == "outputs/tiny_paper/final.pth"


@pytest.mark.parametrize(
    ("protocol", "model", "ending"),
    [
        ("paper", "coco_ce_hrnet_w32_512", "paper"),
        ("released", "coco_ce_hrnet_w32_512", "paper"),
        ("paper", "crowdpose_ce_hrnet_w32_512", "paper"),
        ("released", "crowdpose_ce_hrnet_w32_512", "released"),
    ],
)
def test_a_protocols_run_is_found_again(monkeypatch, tmp_path, checkout, protocol, model, ending):
    monkeypatch.chdir(checkout)
    out = ("OUTPUT_DIR", str(tmp_path))
    training = spec_of_training(asked(*out, model=model, protocol=protocol)).describe()
    assert (f"{model}_{ending}", "fp32") == (training.name, training.precision)
    weights = touch(tmp_path / training.name / "final.pth")
    spec = spec_of_test(asked(*out, model=model, protocol=protocol))
    assert (spec.weights, spec.describe().name) == (str(weights), training.name)
    # the default protocol's run is another one
    with pytest.raises(CheckpointError, match=f"{model}/best.pth nor .* is there. Train it: .* --model {model} --gpus"):
        spec_of_test(asked(*out, model=model))


def test_what_the_user_gives_goes_before_the_protocol(checkout, monkeypatch):
    monkeypatch.chdir(checkout)
    given = ("TRAIN.PRECISION", "fp16", "NAME", "mine")
    info = spec_of_training(asked(*given, model="crowdpose_ce_hrnet_w32_512", protocol="released")).describe()
    assert (info.precision, info.name, info.val) == ("fp16", "mine", "test")


def test_a_model_starts_from_the_other_one_of_its_protocol(checkout, monkeypatch, tmp_path):
    monkeypatch.chdir(checkout)
    plus = asked("OUTPUT_DIR", str(tmp_path), model="crowdpose_ce_hrhrnet_w48_640_plus", protocol="released")
    with pytest.raises(CheckpointError, match="--model coco_ce_hrhrnet_w48_640 --protocol paper"):
        spec_of_training(plus)
    default = touch(tmp_path / "coco_ce_hrhrnet_w48_640/best.pth")
    spec = spec_of_training(plus)
    assert str(default) == spec.describe().init_from
    assert f"starts from {default}, which is not of --protocol released" in spec.warning
    own = touch(tmp_path / "coco_ce_hrhrnet_w48_640_paper/best.pth")
    spec = spec_of_training(plus)
    assert (spec.describe().init_from, spec.warning) == (str(own), "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --cfg or --model"),
        (["--cfg", "a", "--model", "b"], "not both"),
        (["--cfg", "a", "--protocol", "paper"], "--protocol needs --model"),
    ],
)
def test_too_much_or_too_little_is_an_error(arguments, message, capsys):
    parser = ArgumentParser()
    add_model_options(parser)
    with pytest.raises(SystemExit):
        check_choice(parser, parser.parse_args(arguments), ["cfg", "model"])
    assert message in capsys.readouterr().err
