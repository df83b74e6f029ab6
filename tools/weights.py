"""Say which weight files a config or model card needs, where they belong, and whether they are there and fit.

python tools/weights.py --cfg config/coco/ce_hrhrnet_w32_512.yaml
python tools/weights.py --model crowdpose_ce_hrhrnet_w48_640_plus
python tools/weights.py --model coco_ce_hrhrnet_w32_512 --download

Needs no network but for --download, which checks size and SHA-256 before a file gets its name, and overwrites none.
"""

import argparse

from coupled_embedding.utils.cli import command
from coupled_embedding.utils.errors import CheckpointError, UserError
from coupled_embedding.zoo.cards import find_card
from coupled_embedding.zoo.downloads import WeightFile, check_fit, download, start_files, trained_file
from coupled_embedding.zoo.jobs import (
    Job,
    add_model_options,
    check_choice,
    job_of_card,
    job_of_training,
    weight_places,
)


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


def find_job(args: argparse.Namespace) -> Job:
    """Return what would be trained; where the model that it starts from is missing, with the place in its config."""
    try:
        return job_of_training(args)
    except CheckpointError as error:
        print(error)
        return job_of_card(find_card(args.model), args.protocol, args.overrides)


def tell(file: WeightFile, job: Job) -> bool:
    """Print a file's state; return whether it is there and fits."""
    if not file.path.is_file():
        print(f"missing  {file.path.name} ({file.option}): {file.how_to_get()}")
        return False
    file.check()
    known = f"SHA-256 {file.sha256}…" if file.sha256 else "SHA-256 not known"
    print(f"ok       {file.path} ({file.option}): {known}, {check_fit(file, job.load())}")
    return True


@command
def main() -> None:
    """Find, tell, fetch."""
    args = parse()
    job = find_job(args)
    files = start_files(job.load())
    if args.download:
        for file in files:
            if not file.path.is_file() and (file.url or args.url):
                print(f"fetching {args.url or file.url}", flush=True)
                download(file, args.url)
    missing = [file for file in files if not tell(file, job)]
    if not files:
        print("training starts from fresh weights: no file is needed")
    if args.model:
        card = find_card(args.model)
        places = weight_places(card, job.load())
        there = next((path for path in places if path.is_file()), places[0])
        if not tell(trained_file(card, there), job):
            print("         (its own weights: for testing without training)")
    if missing:
        raise UserError(f"{len(missing)} of {len(files)} files that training starts from are missing (above)")


if __name__ == "__main__":
    main()
