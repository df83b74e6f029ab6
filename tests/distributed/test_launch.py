"""--gpus N: what a user reads, and which exit code a shell gets, when ranks fail."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coupled_embedding.utils import launch as launcher
from coupled_embedding.utils.distributed import process_group, relaunch_with_ranks, run_on_rank0
from coupled_embedding.utils.errors import StoppedBySignal, UserError
from coupled_embedding.utils.failures import print_error
from coupled_embedding.utils.launch import launch

pytestmark = pytest.mark.distributed

# a command without torch, which starts in a moment
SCRIPT = """
import os, signal, sys
from pathlib import Path
from coupled_embedding.utils.cli import command
from coupled_embedding.utils.errors import DatasetError, StoppedBySignal, UserError

rank = int(os.environ["RANK"])

def wait_for(other):
    "Wait until another rank has reported its failure."
    while not Path(os.environ["COUPLED_EMBEDDING_REPORTS"], f"{other}.json").exists():
        pass

@command
def main():
    BODY

main()
"""
Launched = Callable[..., tuple[int, str]]


@pytest.fixture
def launched(tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Launched:
    """launched(body, count, patient): exit code and errors of a command with this body in this number of ranks.

    Not patient: ranks that wait for ever are ended as soon as another one has failed.
    """

    def run(body: str, count: int = 2, patient: bool = True) -> tuple[int, str]:
        monkeypatch.setattr(launcher, "GRACE", 60.0 if patient else 0.0)
        path = tmp_path / "script.py"
        path.write_text(SCRIPT.replace("BODY", body))
        code = launch(count, [str(path)])
        return code, capfd.readouterr().err

    return run


def test_what_all_ranks_print_and_end_with_stays(tmp_path, capfd) -> None:
    script = tmp_path / "script.py"
    line = "{os.environ['RANK']} {os.environ['WORLD_SIZE']} {sys.argv[1:]} {__name__}"
    script.write_text(f'import os, sys\nsys.stdout.write(f"{line}\\n")\n')  # at once: the ranks share their output
    assert launch(2, [str(script), "--option", "a b"]) == 0
    printed = capfd.readouterr()
    assert sorted(printed.out.splitlines()) == [f"{rank} 2 ['--option', 'a b'] __main__" for rank in (0, 1)]
    assert printed.err == ""


def test_an_error_of_all_ranks_is_printed_once(launched) -> None:
    assert launched("raise DatasetError('x.json: is broken')", 3) == (2, "error: x.json: is broken\n")


def test_an_error_of_one_rank_names_it(launched) -> None:
    body = "if rank == 1: raise UserError('x.jpg is missing')\n    signal.pause()"
    assert launched(body, 3, patient=False) == (2, "error (rank 1): x.jpg is missing\n")


def test_each_ranks_own_error_is_printed(launched) -> None:
    told = "error (ranks 0, 2): 0.jpg\nerror (rank 1): 1.jpg\n"
    assert launched("raise UserError(f'{rank % 2}.jpg')", 3) == (2, told)


def test_control_characters_of_an_error_are_spelled_out(launched) -> None:
    assert "\x1b" not in launched("raise UserError('\\x1b[2J')")[1]


def test_of_bugs_the_first_ones_traceback_is_printed(launched) -> None:
    body = "if rank == 0: wait_for(1)\n    raise ValueError(f'bug of {rank}')"
    code, told = launched(body)
    assert code == 1
    assert told.count("Traceback") == told.count("ValueError: bug of") == 1
    assert "ValueError: bug of 1\n" in told
    assert told.endswith("error: rank 1 failed (above)\n")


def test_what_other_ranks_meet_after_a_users_error_is_not_printed(launched) -> None:
    body = "if rank == 0: wait_for(1); raise RuntimeError('connection closed')\n    raise UserError('x.jpg is missing')"
    assert launched(body) == (2, "error (rank 1): x.jpg is missing\n")


def test_a_script_that_does_not_begin_has_its_traceback(launched) -> None:
    code, told = launched("import no_such_module")
    assert code == 1
    assert told.count("ModuleNotFoundError: ") == 1


@pytest.mark.parametrize(
    ("end", "code", "told"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", 137, "was killed by SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", 139, "was killed by SIGSEGV"),
        ("os._exit(7)", 7, "ended with exit code 7"),
    ],
)
def test_a_rank_that_dies_is_named_and_not_those_that_fail_for_it(launched, end, code, told) -> None:
    # the other rank's report is there before anybody can know of the death
    body = f"if rank == 0: raise ConnectionError('closed by peer')\n    wait_for(0)\n    {end}"
    found, printed = launched(body)
    assert found == code
    assert printed.startswith("\nerror: rank 1 (process ")
    assert told in printed
    assert "Traceback" not in printed


def test_a_rank_that_aborts_for_anothers_bug_is_not_blamed(launched) -> None:
    body = "if rank == 1: wait_for(0); os.abort()\n    raise ValueError('bug of 0')"
    code, printed = launched(body)
    assert code == 1
    assert "ValueError: bug of 0" in printed
    assert "SIGABRT" not in printed


@pytest.fixture
def heeded() -> Iterator[None]:
    """A shell starts background jobs with SIGINT ignored, nohup with SIGHUP, and ranks then ignore them too."""
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


# not before both run: Python prints a traceback of its own if SIGINT comes while it imports
SIGNALLING = """begun = Path(os.environ["COUPLED_EMBEDDING_REPORTS"], "begun")
    if rank == 0:
        begun.touch()
    else:
        while not begun.exists():
            pass
        os.kill(os.getppid(), NUMBER)
    signal.pause()"""


@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_to_the_launcher_ends_all_ranks(launched, number, code) -> None:
    found, printed = launched(SIGNALLING.replace("NUMBER", str(int(number))), patient=False)
    assert found == code
    assert printed in (
        f"stopped by {number.name}\n",
        f"\nstopped by {number.name}\n",
        "interrupted\n",
        "\ninterrupted\n",
    )


STOPPING = """def stop(number, _):
        raise StoppedBySignal(number, 'all is saved')
    signal.signal(signal.SIGTERM, stop)
    if rank == 1: os.kill(WHOM, signal.SIGTERM)
    signal.pause()"""


@pytest.mark.parametrize("whom", ["os.getppid()", "os.getpid()"])
def test_what_a_stopped_training_says_is_printed_once(launched, whom) -> None:
    code, printed = launched(STOPPING.replace("WHOM", whom), patient=False)
    assert code == 143
    assert printed.strip() == "stopped by SIGTERM: all is saved"


def test_handlers_of_signals_come_back(launched) -> None:
    before = signal.getsignal(signal.SIGTERM)
    launched("pass")
    assert signal.getsignal(signal.SIGTERM) is before


def passed_on(kind: str) -> tuple[str, str | None]:
    def fail() -> None:
        raise {"user": UserError, "bug": ValueError}[kind]("x.json is broken")

    with process_group("cpu") as env, pytest.raises((UserError, ValueError)) as caught:
        run_on_rank0(fail, env)
    return str(caught.value), getattr(caught.value, "origin", None)


def test_ranks_know_that_an_error_is_rank_0s(together) -> None:
    text = "x.json is broken"
    assert together(2, passed_on, "user") == [(text, None), (f"process 0 failed: UserError: {text}", text)]
    assert together(2, passed_on, "bug") == [(text, None), (f"process 0 failed: ValueError: {text}", "")]


def test_an_error_of_rank_0_for_all_is_printed_once(launched) -> None:
    body = (
        "error = UserError('broken' if rank == 0 else 'rank 0: broken')\n    error.origin = 'broken' if rank else None"
    )
    assert launched(f"{body}\n    raise error") == (2, "error: broken\n")


@pytest.mark.parametrize("attempt", ["0", "1"])
def test_ranks_of_a_users_torchrun_print_each_error_once_a_machine(tmp_path, monkeypatch, capsys, attempt) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    errors = [UserError("broken"), UserError("broken"), UserError("missing")]
    for rank, error in enumerate(errors):
        folder = tmp_path / f"attempt_{attempt}" / str(rank)
        folder.mkdir(parents=True)
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(folder / "error.json"))
        assert print_error(error) == 2
        assert print_error(StoppedBySignal(signal.SIGTERM, "saved")) == 143
    told = ["error (rank 0): broken", "stopped by SIGTERM: saved", "error (rank 2): missing"]
    assert capsys.readouterr().err.splitlines() == told


def command(checkout: Path, tool: str, *arguments: str) -> tuple[int, list[str]]:
    """Run a command in two processes; return its exit code and the lines that are not of progress."""
    call = [sys.executable, str(checkout / "tools" / tool), "--gpus", "2", "--device", "cpu", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(call, capture_output=True, text=True, cwd=checkout, env=environment, timeout=400)
    return done.returncode, done.stderr.splitlines()


def test_a_command_that_fails_on_both_ranks_says_it_once(checkout, tiny, as_file) -> None:
    cfg = as_file(tiny("none"))
    code, told = command(checkout, "test.py", "--cfg", cfg, "--weights", "/nowhere/x.pth")
    assert code == 2
    assert [line for line in told if line] == ["error: /nowhere/x.pth: no such weight file"]


def test_training_that_fails_on_one_rank_says_it_once(checkout, tiny, as_file, tiny_crowd, tmp_path) -> None:
    crowd = shutil.copytree(tiny_crowd, tmp_path / "crowd")
    missing = min(crowd.rglob("*.jpg"))
    missing.unlink()
    cfg = as_file(tiny("one", "DATASET.ROOT", str(crowd), "DATASET.ON_INVALID", "raise", "DATASET.VAL", "''"))
    code, told = command(checkout, "train.py", "--cfg", cfg)
    assert code == 2, told
    assert len([line for line in told if missing.name in line]) == 1
    assert not [line for line in told if "Traceback" in line or "torch" in line]
    assert told[-1].startswith("error (rank ")


def test_ranks_and_single_processes_launch_nothing(monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    relaunch_with_ranks(2, ["no_such_script.py"])
    monkeypatch.delenv("WORLD_SIZE")
    relaunch_with_ranks(1, ["no_such_script.py"])
