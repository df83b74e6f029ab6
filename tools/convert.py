"""Turn released weights into a checkpoint of this package, which test.py, demo.py and MODEL.INIT_FROM read.

python tools/convert.py models/pose_higher_hrnet_w32_512.pth --out models/ae_hrhrnet_w32_512.pth
python tools/convert.py FILE --out models/mine.pth --options DATASET.INPUT_SIZE 640

Reads the files of HigherHRNet, of mmpose 0.x's HigherHRNet, of associative embedding (stacked
hourglass) and of coupled embedding. Without --cfg the config is that of the published experiment
with such weights. Every tensor must fit.
"""

import argparse
from pathlib import Path

from coupled_embedding.builders import build_model, build_schema
from coupled_embedding.config import config_to_dict, load_config
from coupled_embedding.engine.checkpointer import write_checkpoint
from coupled_embedding.networks.convert import (
    config_of_released,
    convert_weights,
    joints_of_released,
    released_weights,
    splits_of_released,
)
from coupled_embedding.networks.torch_files import read_weight_file
from coupled_embedding.networks.weights import FORMAT, load_strictly
from coupled_embedding.utils.cli import command
from coupled_embedding.utils.errors import CheckpointError, UserError


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="released weights")
    parser.add_argument("--out", required=True, type=Path, help="the checkpoint to write; must not exist")
    parser.add_argument("--cfg", help="config file (default: that of the published experiment)")
    parser.add_argument("--options", nargs="*", default=[], metavar="KEY VALUE", help="config options to change")
    return parser.parse_args()


@command
def main() -> None:
    """Read, rename, load into the config's network, write."""
    args = parse()
    if args.out.exists():
        raise UserError(f"{args.out} exists; delete it first to convert again")
    content = read_weight_file(args.file)
    if content.get("format") == FORMAT:
        raise UserError(f"{args.file}: is a checkpoint of this package already")
    notes: list[str] = []
    weights = released_weights(content, args.file, notes)
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
    about = {"config": config_to_dict(cfg), "schema": schema.to_dict(), "metrics": {}, "step": 0}
    write_checkpoint({"format": FORMAT, "model": network.state_dict(), **about}, args.out)
    print("\n".join([f"{args.out}: {len(weights)} tensors of {args.file} as {cfg.NAME}", *notes]))


if __name__ == "__main__":
    main()
