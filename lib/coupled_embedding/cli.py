"""The console script ``coupled-embedding VERB``: the same as ``python tools/VERB.py``, wheels included.

A ``-`` of a verb is a ``_`` in the file's name.
"""

import runpy
import sys
from pathlib import Path

from coupled_embedding.utils.paths import CHECKOUT

TOOLS = CHECKOUT / "tools"
VERBS = {
    "predict": "find the people of images, videos or a camera: overlays and JSON",
    "train": "train a network",
    "test": "predict and score a data set",
    "diagnose": "analyze what limits a network",
    "browse": "a page that walks through a data set with its predictions and their errors",
    "convert": "turn weights into a checkpoint, or a checkpoint into one small file or a folder for the Hub",
    "convert-dataset": "turn another tool's data set (YOLO-pose, CVAT, Label Studio, Roboflow, MPII) into COCO format",
    "export": "write a network for other programs",
    "nms": "suppress or merge poses of results files",
    "fit-nms": "fit the suppression of poses to a validation split",
    "fit-proposals": "fit how detected boxes differ from annotated ones, for training on crops",
    "serve": "a page and a JSON endpoint that find the people of images",
}


def tool_of(verb: str) -> Path:
    """Return the command of a verb."""
    return TOOLS / f"{verb.replace('-', '_')}.py"


def main() -> None:
    """Run the verb's command on the rest of the command line; without one list them."""
    known = {verb: text for verb, text in VERBS.items() if tool_of(verb).is_file()}
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    if verb not in known:
        lines = [f"  {name:<16} {text}" for name, text in known.items()]
        usage = "\n".join(
            ["usage: coupled-embedding VERB ...", "", *lines, "", "coupled-embedding VERB --help says more"]
        )
        is_help = verb in ("-h", "--help")
        print(
            usage if is_help or not verb else f"error: no verb '{verb}'\n{usage}", file=None if is_help else sys.stderr
        )
        sys.exit(0 if is_help else 2)
    tool = tool_of(verb)
    # as python tools/VERB.py has them: a command imports others beside it, and its ranks start as it did
    sys.argv[:] = [str(tool), *sys.argv[2:]]
    sys.path.insert(0, str(TOOLS))
    runpy.run_path(str(tool), run_name="__main__")
