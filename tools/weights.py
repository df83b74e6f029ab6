"""Show which weight files a config or model card needs, where they belong, and whether they are there and fit.

python tools/weights.py --cfg config/coco/ce_hrhrnet_w32_512.yaml
python tools/weights.py --model crowdpose_ce_hrhrnet_w48_640_plus
python tools/weights.py --model coco_ce_hrhrnet_w32_512 --download

Works offline, except for --download, which checks size and SHA-256 before a file gets its name, and overwrites
none.
"""

import argparse

from coupled_embedding.builders import build_network, build_schema
from coupled_embedding.config import load_config
from coupled_embedding.utils.cli import command
from coupled_embedding.utils.errors import CheckpointError, UserError
from coupled_embedding.zoo.cards import find_card
from coupled_embedding.zoo.downloads import WeightFile, check_fit, download, start_files, trained_file
from coupled_embedding.zoo.protocols import RunSpec, spec_of_card
from coupled_embedding.zoo.run_specs import add_model_options, check_choice, spec_of_training, weight_places


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_options(parser)
    parser.add_argument("--download", action="store_true", help="fetch missing files whose address is known")
    parser.add_argument("--url", default="", help="fetch from this address instead (with --download)")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="config options to change")
    args = parser.parse_args()
    check_choice(parser, args, ["cfg", "model"])
    return args


def find_spec(args: argparse.Namespace) -> RunSpec:
    """Return what would be trained; the weights to start from are the config's where another model's are missing."""
    try:
        return spec_of_training(args)
    except CheckpointError as error:
        print(error)
        return spec_of_card(find_card(args.model), args.protocol, args.overrides)


def report(file: WeightFile, spec: RunSpec) -> bool:
    """Print a file's state; return whether it is there and fits."""
    if not file.path.is_file():
        print(f"missing  {file.path.name} ({file.option}): {file.how_to_get()}")
        return False
    file.check()
    cfg = load_config(spec.config, spec.overrides)
    schema = build_schema(cfg)
    fit = check_fit(file, build_network(cfg, schema), schema, cfg.MODEL.INIT_SCHEMA)
    print(f"ok       {file.path} ({file.option}): SHA-256 {file.sha256 + '…' if file.sha256 else 'not known'}, {fit}")
    return True


@command
def main() -> None:
    """Find, download, report."""
    args = parse()
    spec = find_spec(args)
    info = spec.describe()
    files, own = start_files(info), []
    if args.model:
        card = find_card(args.model)
        places = weight_places(card, info)
        own = [trained_file(card, next((path for path in places if path.is_file()), places[0]))]
    for file in [*files, *own] if args.download else ():
        url = (args.url if file in files else "") or file.url
        if url and not file.path.is_file():
            print(f"fetching {url}", flush=True)
            download(file, url)
    missing = [file for file in files if not report(file, spec)]
    if not files:
        print("training starts from random weights: no file is needed")
    for file in own:
        if not report(file, spec):
            print("         (its own weights: for testing without training)")
    if missing:
        raise UserError(f"{len(missing)} of {len(files)} files that training starts from are missing (above)")


if __name__ == "__main__":
    main()
