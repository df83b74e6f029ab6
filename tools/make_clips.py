"""Render clips of the synthetic crowd with true identities: frames as JPEGs, COCO annotations with track_id.

python tools/make_clips.py --out datasets/my_clips --split test --count 8 --frames 60
"""

import argparse
import sys
from pathlib import Path

from coupled_embedding.utils.errors import UserError
from make_synthetic import add_crowd_options, settings_from
from synthetic_crowd import write_clips
from synthetic_crowd.clips import FPS


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the clips (created)")
    parser.add_argument("--split", default="test", help="name of the split (%(default)s)")
    parser.add_argument("--count", type=int, default=8, help="number of clips (%(default)s)")
    parser.add_argument("--frames", type=int, default=60, help="frames of a clip (%(default)s)")
    parser.add_argument("--fps", type=float, default=FPS, help="frames per second (%(default)s)")
    add_crowd_options(parser, size="256x192", people=(3, 8))
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse()
    path = write_clips(
        args.out, args.split, settings_from(args), args.seed, args.count, args.frames, args.fps, args.workers
    )
    print(f"{args.count} clips in {args.out / 'clips' / args.split}, their annotations in {path}")


if __name__ == "__main__":
    try:
        main()
    except (UserError, ValueError, OSError) as error:
        sys.exit(f"make_clips: {error}")
