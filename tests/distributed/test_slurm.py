"""tools/slurm.sh, with a Slurm of two short scripts on the PATH."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from coupled_embedding.builders import run_folder
from coupled_embedding.config import load_config

pytestmark = pytest.mark.distributed

# one task; SRUN_EXITS represents a task that ends so
SRUN = """#!/bin/bash
echo "srun $*" >> "$CALLS"
[ -n "${SRUN_EXITS:-}" ] && exit "$SRUN_EXITS"
while [[ $1 == --* ]]; do shift; done
SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NTASKS=1 "$@"
"""
SCONTROL = """#!/bin/bash
echo "scontrol $* at ${MASTER_ADDR:-}" >> "$CALLS"
[ "$*" = "show hostnames gpu[1-2]" ] && printf 'gpu1\\ngpu2\\n'
exit 0
"""


@pytest.fixture
def submit(checkout: Path, tmp_path: Path) -> Callable[..., tuple[int, str, list[str]]]:
    """submit(*arguments, NAME=value): exit code, what the job printed, and the calls of Slurm's commands."""
    stubs = tmp_path / "bin"
    stubs.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (stubs / name).write_text(text)
        (stubs / name).chmod(0o755)

    def run(*arguments: str, **environment: str) -> tuple[int, str, list[str]]:
        calls = tmp_path / "calls"
        calls.write_text("")
        slurm = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NODELIST": "gpu[1-2]", "SLURM_SUBMIT_DIR": str(checkout)}
        path = f"{stubs}{os.pathsep}{os.environ['PATH']}"
        given = {**os.environ, "PATH": path, "CALLS": str(calls), "PYTHON": sys.executable, **slurm, **environment}
        script = ["bash", str(checkout / "tools" / "slurm.sh"), *arguments]
        done = subprocess.run(script, env=given, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        return done.returncode, done.stdout + done.stderr, calls.read_text().splitlines()

    return run


def test_a_job_goes_back_into_the_queue_and_continues(submit, tiny, as_file, dying, tmp_path) -> None:
    cfg = as_file(tiny("job"))
    # train.py gets SIGTERM in its second epoch
    python = tmp_path / "python"
    python.write_text(f'#!/bin/bash\nexec "{sys.executable}" "{dying("SIGTERM", rank=0)}" "$@"\n')
    python.chmod(0o755)
    code, printed, calls = submit("--cfg", cfg, "--device", "cpu", "TRAIN.KEEP", "5", PYTHON=str(python))
    assert code == 143, printed
    assert calls[-1] == "scontrol requeue 4711 at gpu1"
    folder = run_folder(load_config(cfg))
    assert (folder / "checkpoint_00000003.pth").exists()
    assert not (folder / "final.pth").exists()
    code, printed, calls = submit("--cfg", cfg, "--device", "cpu", "TRAIN.KEEP", "5", SLURM_RESTART_COUNT="1")
    assert code == 0, printed
    assert f"continuing from {folder}/checkpoint_0000000" in printed
    assert not any("requeue" in call for call in calls)
    assert (folder / "final.pth").exists()


@pytest.mark.parametrize(("exits", "restarts"), [("1", "0"), ("137", "0"), ("143", "100")])
def test_a_failed_job_stays_out_of_the_queue(submit, exits: str, restarts: str) -> None:
    code, _, calls = submit("--cfg", "x.yaml", SRUN_EXITS=exits, SLURM_RESTART_COUNT=restarts)
    assert code == int(exits)
    assert [call.split()[0] for call in calls] == ["scontrol", "srun"]
    assert calls[1].endswith("tools/train.py --cfg x.yaml --resume")
