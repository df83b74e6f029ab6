"""Train the same small network with different tags on the synthetic crowd, and record what limits each.

python benchmarks/coupling/run.py --seeds 1 2 3 --budget 180
python benchmarks/coupling/run.py --arms scalar coupled --epochs 1 --train-scenes 64 --test-scenes 16 --out /tmp/toy

Every arm sees the same images in the same order for the same number of steps; the weights that are best on validation
are diagnosed on the test scenes. A run leaves OUT/records/ARM_seedS.json: its options, commit, machine and the numbers
of tools/diagnose.py; `report.py` makes tables and figures of the records. Stopped, the command goes on where it was.
With --layouts the same weights are diagnosed on the test scenes of another folder too: OUT/records_layouts/.
With a budget no run starts that would not end within it, as long as the longest so far.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from coupled_embedding.config.defaults import all_options
from coupled_embedding.data.coco import annotation_file
from coupled_embedding.data.schema import load_schema
from coupled_embedding.utils.atomic import atomic_write
from coupled_embedding.utils.cli import command
from coupled_embedding.utils.errors import UserError
from coupled_embedding.zoo.provenance import code_version, device_name, package_versions

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CONFIG = ROOT / "config/synthetic/ce_small_paper.yaml"
Options = dict[str, Any]
MANY = "one or more; another option must stand between them and KEY VALUE pairs (%(default)s)"

# of the config's network, what is left at a given time: more images count more than more channels
NETWORK = {"MODEL.WIDTH": 24, "MODEL.STEM_WIDTH": 16}

# heatmap targets as wide in all arms, so that only the tags differ, except where that is the question
SAME_TARGETS = {"LOSS.SCALE_ADAPTED": False, "LOSS.ANNOTATED_WIDTHS": True}
UNCOUPLED = SAME_TARGETS | {"LOSS.COUPLING_WEIGHT": 0.0}
CENTERS = SAME_TARGETS | {"MODEL.SPATIAL_TAGS": 0.25, "LOSS.CENTER_WEIGHT": 5e-3}
FIELDS = SAME_TARGETS | {"MODEL.TAG_DIM": 0, "MODEL.PAF": True}
CENTER_NMS = {"TEST.POSE_NMS": "oks", "TEST.POSE_NMS_PARAMETERS": "[threshold=0.7]"}
# name -> options
ARMS: dict[str, Options] = {
    # the paper's claim
    "scalar": UNCOUPLED | {"MODEL.TAG_DIM": 1},
    "uncoupled": UNCOUPLED,
    "coupled": SAME_TARGETS,
    # the whole method: the tags decide the targets' widths; and without a part of it
    "paper": {},
    "paper_no_focal": {"LOSS.FOCAL": False},
    "paper_released_flip": {"AUGMENT.EXACT_FLIP": False},
    # how many dimensions, how strong
    **{f"coupled_{dims}d": SAME_TARGETS | {"MODEL.TAG_DIM": dims} for dims in (2, 4, 16)},
    **{f"coupled_{weight:g}": SAME_TARGETS | {"LOSS.COUPLING_WEIGHT": weight} for weight in (1e-5, 1e-4, 1e-2)},
    # no tags at all: part affinity fields, see docs/groupings.md
    "paf": FIELDS,
    "paf_0.25": FIELDS | {"LOSS.PAF_WEIGHT": 0.25},
    # both: fields group, tags find the joints that are missing
    "paf_tags": SAME_TARGETS | {"MODEL.PAF": True, "LOSS.PAF_WEIGHT": 0.25},
    # people by their centers
    "center_maps": SAME_TARGETS | {"MODEL.TAG_DIM": 0, "MODEL.CENTERS": True} | CENTER_NMS,
    # other tags
    "contrast": SAME_TARGETS | {"LOSS.CONTRAST_WEIGHT": 5e-3, "LOSS.PUSH_WEIGHT": 0.0},
    "decorrelated": SAME_TARGETS | {"LOSS.CORRELATION_WEIGHT": 1e-3, "LOSS.VARIANCE_WEIGHT": 1e-3},
    "places": SAME_TARGETS | {"MODEL.SPATIAL_TAGS": 0.25},
    "centers": CENTERS,
    "centers_scalar": CENTERS | {"MODEL.TAG_DIM": 1, "LOSS.COUPLING_WEIGHT": 0.0},
}
# name -> arm whose weights are decoded with other options
DECODES: dict[str, tuple[str, Options]] = {
    "coupled_distance": ("coupled", {"TEST.GROUPING_COST": "distance", "TEST.REGROUP": 1}),
    "centers_distance": ("centers", {"TEST.GROUPING_COST": "distance", "TEST.REGROUP": 1}),
    # people as grouping leaves them, which fields have too: nothing is looked up for missing joints
    "scalar_unrefined": ("scalar", {"TEST.REFINE": "none"}),
    "coupled_unrefined": ("coupled", {"TEST.REFINE": "none"}),
    "paf_openpose": ("paf_0.25", {"TEST.PAF_PRESET": "openpose_coco"}),
    "paf_sleap": ("paf_0.25", {"TEST.PAF_PRESET": "sleap"}),
    "paf_tags_by_tags": ("paf_tags", {"TEST.GROUPING": "tags"}),
    # fields and tags decide about each connection together
    "paf_with_tags": ("paf_tags", {"TEST.PAF_PRESET": "with_tags"}),
}


@dataclass(frozen=True)
class Study:
    """What all runs of a study share.

    Attributes:
        out: folder of records and runs.
        data: folder of the data set.
        layouts: folder of further test scenes; None: there are none.
        device: of training and test; empty: a GPU where there is one.
        common: options of all arms.
    """

    out: Path
    data: Path
    layouts: Path | None
    device: str
    common: Options

    def records_of(self, arm: str, seed: int) -> dict[Path, Path]:
        """Return where a run's records go, and the data whose test scenes each is of."""
        name = f"{arm}_seed{seed}.json"
        records = {self.out / "records" / name: self.data}
        return records if self.layouts is None else records | {self.out / "records_layouts" / name: self.layouts}

    def is_done(self, arm: str, seed: int) -> bool:
        """Whether a run has left all of its records."""
        return all(record.is_file() for record in self.records_of(arm, seed))

    def run(self, arm: str, seed: int) -> None:
        """Train, diagnose and record, as far as that is not done."""
        trained, decode = DECODES.get(arm, (arm, {}))
        options = self.common | ARMS[trained] | {"SEED": seed, "NAME": f"{trained}_seed{seed}"}
        for record, data in self.records_of(arm, seed).items():
            if record.is_file():
                check_same(record, options | decode, data)
        if self.is_done(arm, seed):
            return
        start, folder = time.monotonic(), self.out / "runs" / options["NAME"]
        if not (folder / "final.pth").is_file():
            resume = ["--resume"] if any(folder.glob("checkpoint_*.pth")) else []
            self._call("train.py", options | {"DATASET.ROOT": self.data}, resume)
        minutes = (time.monotonic() - start) / 60
        for record, data in self.records_of(arm, seed).items():
            if not record.is_file():
                self._diagnose(arm, record, data, options | decode, minutes)

    def _diagnose(self, arm: str, record: Path, data: Path, options: Options, minutes: float) -> None:
        numbers = self.out / "runs" / f"{record.stem}_{record.parent.name.replace('records', 'diagnosis')}"
        validation = {} if data == self.data else {"DATASET.VAL": ""}  # which such a folder need not have
        self._call("diagnose.py", options | validation | {"DATASET.ROOT": data}, ["--out", str(numbers)])
        content = {
            "arm": arm,
            "seed": options["SEED"],
            "options": options,
            "scenes": scenes_of(data),
            "code": code_version(),
            "versions": package_versions(),
            "device": device_name(torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))),
            "training_minutes": round(minutes, 2),
            "diagnosis": json.loads((numbers / "diagnosis.json").read_text(encoding="utf-8")),
        }
        record.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(record, json.dumps(content, indent=1) + "\n")

    def _call(self, tool: str, options: Options, more: list[str]) -> None:
        options = options | {"OUTPUT_DIR": self.out / "runs"}
        texts = [text for key, value in options.items() for text in (key, str(value))]
        device = ["--device", self.device] if self.device else []
        call = [sys.executable, str(ROOT / "tools" / tool), "--cfg", str(CONFIG), *more, *device, *texts]
        if code := subprocess.run(call).returncode:
            raise UserError(f"{tool} of {options['NAME']} ended with {code} (above); the same command continues here")


def scenes_of(data: Path) -> str | None:
    """Return a hash of the annotations of a folder's test scenes; None: the folder has no test scenes."""
    path = annotation_file(load_schema("datasets/synthetic.yaml"), "test", str(data))
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else None


def check_same(record: Path, options: Options, data: Path) -> None:
    """Raise UserError if a record is of other options, of those that change results, or of other scenes."""
    content = json.loads(record.read_text(encoding="utf-8"))
    found, scenes = content["options"], content.get("scenes")  # older records do not say
    if scenes and scenes != scenes_of(data):
        raise UserError(f"{record}: is of other test scenes than {data} has; choose another --out")
    counts = {key for key in {*found, *options} if all_options()[key].results}
    if different := sorted(key for key in counts if str(found.get(key)) != str(options.get(key))):
        raise UserError(f"{record}: is of a run with other {', '.join(different)}; choose another --out")


def runs(arms: list[str], seeds: list[int]) -> Iterator[tuple[str, int]]:
    """Yield (arm, seed): all arms of a seed before the next, so that a stopped study compares what it has."""
    return ((arm, seed) for seed in seeds for arm in arms)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*ARMS, *DECODES]
    parser.add_argument(
        "--arms", nargs="+", default=["scalar", "uncoupled", "coupled"], choices=names, metavar="ARM", help=MANY
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="S", help=MANY)
    parser.add_argument("--budget", type=float, default=float("inf"), metavar="MINUTES", help="start no run beyond it")
    parser.add_argument("--epochs", type=int, default=3, help="of training (%(default)s)")
    parser.add_argument("--train-scenes", type=int, default=4000, metavar="N", help="rendered (%(default)s)")
    parser.add_argument("--test-scenes", type=int, default=1000, metavar="N", help="rendered (%(default)s)")
    parser.add_argument("--data", type=Path, help="folder of the scenes (OUT/data); other scenes' counts must fit")
    parser.add_argument("--layouts", type=Path, help="folder with test scenes of other layouts, to test on as well")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of records and runs (this one)")
    parser.add_argument("--device", default="", choices=["", "cpu", "cuda"], help="default: a GPU where there is one")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="options of all arms")
    args = parser.parse_args()
    if len(args.overrides) % 2:
        parser.error(f"options come as KEY VALUE pairs: {' '.join(args.overrides)}")
    return args


@command
def main() -> None:
    """Run what is missing."""
    args = parse()
    steps = args.epochs * args.train_scenes // 16
    common: Options = {
        **NETWORK,
        "TRAIN.EPOCHS": args.epochs,
        "SYNTHETIC.TRAIN_SCENES": args.train_scenes,
        "SYNTHETIC.TEST_SCENES": args.test_scenes,
        # the ramp of the config, for a training of this length
        "LOSS.PULL_RAMP_START": round(steps * 300 / 2250),
        "LOSS.PULL_RAMP_END": round(steps * 1000 / 2250),
        **dict(zip(args.overrides[::2], args.overrides[1::2], strict=True)),
    }
    if args.layouts and scenes_of(args.layouts.resolve()) is None:
        raise UserError(f"--layouts: {args.layouts} has no test scenes; tools/make_synthetic.py --layouts renders them")
    study = Study(
        args.out.resolve(),
        (args.data or args.out / "data").resolve(),
        args.layouts and args.layouts.resolve(),
        args.device,
        common,
    )
    start, longest = time.monotonic(), 0.0
    for arm, seed in runs(args.arms, args.seeds):
        done = study.is_done(arm, seed)
        spent = (time.monotonic() - start) / 60
        if not done and spent + longest > args.budget:
            print(f"{spent:.0f} of {args.budget:g} minutes are spent; {arm} with seed {seed} and what follows is left")
            break
        study.run(arm, seed)
        longest = longest if done else max(longest, (time.monotonic() - start) / 60 - spent)


if __name__ == "__main__":
    main()
