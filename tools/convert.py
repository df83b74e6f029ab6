"""Turn weights into a checkpoint of this package, or a checkpoint into one small file or a folder for the Hub.

python tools/convert.py models/pose_higher_hrnet_w32_512.pth --out models/ae_hrhrnet_w32_512.pth
python tools/convert.py FILE --out models/mine.pth --options DATASET.INPUT_SIZE 640
python tools/convert.py outputs/synthetic_ce_small/best.pth --out models/mine.safetensors --half
python tools/convert.py outputs/synthetic_ce_small/best.pth --out mine --hub --push OWNER/NAME

Reads checkpoints of this package, and the files of HigherHRNet, of mmpose 0.x's HigherHRNet, of
associative embedding (stacked hourglass) and of coupled embedding, whose config without --cfg is
that of the published experiment with such weights. Every tensor must fit. Everything that takes a
checkpoint takes what is written: a .pth file, or a .safetensors file without a training's state,
which --half makes half as large. With --hub it is a folder in the layout of the Hugging Face Hub:
model.safetensors, config.json, README.md; --push uploads the same.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from coupled_embedding.builders import LoadedModel, build_model, build_predictor, build_schema, load_model, save_model
from coupled_embedding.config import config_to_dict, load_config, override
from coupled_embedding.engine.checkpointer import write_checkpoint
from coupled_embedding.networks.convert import (
    config_of_released,
    convert_weights,
    joints_of_released,
    released_weights,
    splits_of_released,
)
from coupled_embedding.networks.state_dict import is_own_checkpoint
from coupled_embedding.networks.torch_files import read_weight_file
from coupled_embedding.networks.weights import FORMAT, load_strictly
from coupled_embedding.utils.cli import command
from coupled_embedding.utils.errors import CheckpointError, UserError


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="released weights, or a checkpoint of this package")
    parser.add_argument(
        "--out", required=True, type=Path, help="the .pth or .safetensors file, or with --hub the folder, to write"
    )
    parser.add_argument("--hub", action="store_true", help="write a folder in the layout of the Hugging Face Hub")
    parser.add_argument("--push", metavar="OWNER/NAME", help="also upload that folder to the Hugging Face Hub (--hub)")
    parser.add_argument("--half", action="store_true", help="in half precision (.safetensors and --hub)")
    parser.add_argument("--license", type=Path, help="text file that goes into the .safetensors file")
    parser.add_argument("--cfg", help="config file (default: that of the published experiment)")
    parser.add_argument("--options", nargs="*", default=[], metavar="KEY VALUE", help="config options to change")
    return parser.parse_args()


def load_released(args: argparse.Namespace, weights: dict[str, Tensor]) -> LoadedModel:
    """Return the model of released weights; CheckpointError if they do not fit."""
    if args.cfg:
        cfg = load_config(args.cfg, args.options)
    else:
        config = config_of_released(weights, args.file)
        cfg = load_config(config, [*splits_of_released(config), *args.options])
    schema, joints = build_schema(cfg), joints_of_released(weights)
    if joints not in (0, schema.num_joints):
        raise CheckpointError(
            f"{args.file}: weights for {joints} joints, data set '{schema.name}' has {schema.num_joints}: convert them "
            "with a config for their own joints (without --cfg that of the published experiment is found), and "
            "transfer joints in a training, with MODEL.INIT_FROM"
        )
    network = build_model(cfg, schema.num_joints)
    load_strictly(network, convert_weights(weights, schema.num_joints), args.file)
    return LoadedModel(network, cfg, schema, {})


def load_own(args: argparse.Namespace, as_model: bool) -> LoadedModel:
    """Return the model of a checkpoint, with changed options; UserError if nothing would change."""
    if not as_model:
        raise UserError(
            f"{args.file}: is a checkpoint of this package already; --out NAME.safetensors makes it smaller, and --hub "
            "a folder of it"
        )
    if args.cfg:
        raise UserError(f"--cfg: {args.file} has its own config, of which --options changes single options")
    model = load_model(args.file)
    return replace(model, cfg=override(model.cfg, args.options))


def read_license(path: Path) -> str:
    """Return a text; UserError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise UserError(f"--license {path}: cannot read this text ({error})") from error


def write_to_hub(args: argparse.Namespace, model: LoadedModel) -> None:
    """Write the folder, and upload it if asked for."""
    predictor = build_predictor(model, model.cfg, "cpu")
    predictor.save_pretrained(args.out, args.half)
    if args.push:
        print(f"{args.push}: {predictor.push_to_hub(args.push, args.half)}")


@command
def main() -> None:
    """Read, rename, load into the config's network, write."""
    args = parse()
    as_model = args.hub or args.out.suffix == ".safetensors"
    if args.push and not args.hub:
        raise UserError(f"--push {args.push}: uploads what --hub writes; give --hub, and a folder to --out")
    if args.out.exists():
        raise UserError(f"{args.out} exists; delete it first to convert again")
    if (args.half or args.license) and not as_model:
        raise UserError(f"--half and --license: {args.out} is no .safetensors file, and without --hub")
    content, notes = read_weight_file(args.file), list[str]()
    if is_own_checkpoint(content):
        model = load_own(args, as_model)
        weights = model.network.state_dict()
    else:
        weights = released_weights(content, args.file, notes)
        model = load_released(args, weights)
    if args.license:
        model = replace(model, license=read_license(args.license))
    if args.hub:
        write_to_hub(args, model)
    elif as_model:
        save_model(args.out, model, args.half)
    else:
        about = {"config": config_to_dict(model.cfg), "schema": model.schema.to_dict(), "metrics": {}, "step": 0}
        write_checkpoint({"format": FORMAT, "model": model.network.state_dict(), **about}, args.out)
    print("\n".join([f"{args.out}: {len(weights)} tensors of {args.file} as {model.cfg.NAME}", *notes]))


if __name__ == "__main__":
    main()
