"""Feed many hostile files to every reader; print a table, exit with 1 on a defect.

python tests/fuzz/run.py --examples 1000 --seed 1

Each input is made from seed, target and number alone; ``--target NAME --only NUMBER`` repeats one
and shows its traceback. A target runs in a process of its own, so that a crash or a hang is a
defect of one input. Memory is how far a process grew beyond its size before the input (Linux).
"""

import argparse
import collections
import json
import os
import resource
import selectors
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from random import Random
from typing import Any

MOST_SECONDS = 10.0  # of processor time for one file
MOST_MEGABYTES = 150.0  # beyond the process's size; the files are below 1 MB
HANGS = 120.0  # seconds without an answer
MORE_GIGABYTES = 6  # of address space than a process starts with: what asks for more is refused by the system


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=1000, help="inputs of a cheap target; dear ones get a share")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", help="only targets whose name holds this")
    parser.add_argument("--only", type=int, help="only the input of this number, with its traceback")
    parser.add_argument("--start", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def _peak_megabytes() -> float:
    """Return the process's largest size since the last call, and forget it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            peak = int(line.split()[1]) / 1000
    Path("/proc/self/clear_refs").write_text("5")
    return peak


def _one(target: Any, seed: int, number: int, traced: bool = False) -> dict[str, Any]:
    """Make one input and let the target read it; return what became of it and what it took."""
    from fuzz_targets import attempt

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arguments = target.write(Random(f"{seed}/{target.name}/{number}"), Path(folder))
        _peak_megabytes()
        before, start = _peak_megabytes(), time.process_time()
        try:
            outcome = attempt(target, arguments, Path(folder))
        except BaseException as error:
            if traced:
                traceback.print_exc()
            last = traceback.extract_tb(error.__traceback__)[-1]
            outcome = f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}: {str(error)[:200]}"
        seconds, megabytes = time.process_time() - start, _peak_megabytes() - before
    if seconds > MOST_SECONDS or megabytes > MOST_MEGABYTES:
        outcome = f"{seconds:.1f} s and {megabytes:.0f} MB ({outcome})"
    return {"outcome": outcome, "seconds": seconds, "megabytes": megabytes}


def work(target: Any, seed: int, numbers: range) -> None:
    """Run inputs, one line of JSON each before and after (in a process of its own)."""
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + MORE_GIGABYTES * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    # what is made or compiled once counts for no input
    if target.warm:
        target.warm(Path.cwd())
    _one(target, seed, -1)
    for number in numbers:
        print(json.dumps({"number": number}), flush=True)
        print(json.dumps(_one(target, seed, number)), flush=True)


def watch(name: str, seed: int, count: int) -> list[dict[str, Any]]:
    """Run a target's inputs in processes that may die; return what became of each."""
    done: list[dict[str, Any]] = []
    while len(done) < count:
        command = [sys.executable, __file__, "--target", name, "--seed", str(seed)]
        command += ["--examples", str(count), "--start", str(len(done))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout
            waiting = selectors.DefaultSelector()
            waiting.register(process.stdout, selectors.EVENT_READ)
            while (ready := waiting.select(HANGS)) and (line := process.stdout.readline()):
                if "outcome" in (answer := json.loads(line)):
                    done.append(answer)
            if not ready:
                process.kill()
        if len(done) < count:
            outcome = f"the process {'hung' if not ready else f'died with {process.returncode}'}"
            done.append({"outcome": outcome, "seconds": HANGS if not ready else 0.0, "megabytes": 0.0})
    return done


def main() -> None:
    """Run the targets and print the table."""
    args = parse()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    from fuzz_targets import TARGETS

    targets = [t for t in TARGETS if not args.target or args.target in t.name]
    if args.start is not None:
        with tempfile.TemporaryDirectory() as folder:
            target = next(t for t in TARGETS if t.name == args.target)
            sys.path[:] = [str(Path(path).resolve()) for path in sys.path]
            os.chdir(folder)  # where code that should not run would leave its mark
            work(target, args.seed, range(args.start, args.examples))
        return
    if args.only is not None:
        print(_one(targets[0], args.seed, args.only, traced=True))
        return
    print("| target | inputs | accepted | refused clearly | defects | largest memory, MB | longest time, s |")
    print("| --- | --: | --: | --: | --: | --: | --: |")
    rows, defects = [], collections.Counter[str]()
    for target in targets:
        done = watch(target.name, args.seed, max(1, args.examples // target.cost))
        counts = collections.Counter(answer["outcome"] for answer in done)
        bad = len(done) - counts["accepted"] - counts["refused"]
        most = [max(answer[key] for answer in done) for key in ("megabytes", "seconds")]
        rows.append((len(done), counts["accepted"], counts["refused"], bad))
        print(f"| {target.name} | {' | '.join(map(str, rows[-1]))} | {most[0]:.1f} | {most[1]:.2f} |")
        for number, answer in enumerate(done):
            if answer["outcome"] not in ("accepted", "refused"):
                defects[f"{target.name}, first of them --only {number}: {answer['outcome']}"] += 1
    print(f"| all | {' | '.join(str(sum(column)) for column in zip(*rows, strict=True))} | | |")
    for text in defects:
        print(f"defect: {text}", file=sys.stderr)
    sys.exit(1 if defects else 0)


if __name__ == "__main__":
    main()
