"""How a command reports an error: once, however many ranks have it. Imports no torch, so that a rank can begin here.

Ranks that `launch` started leave a report each, of which their launcher prints what matters. Ranks of a torchrun
that a user started agree with the others of their machine on who prints an error.
"""

import contextlib
import hashlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from coupled_embedding.utils.errors import StoppedBySignal, UserError, escape_control

# environment variable: the folder of a launcher's reports
REPORTS = "COUPLED_EMBEDDING_REPORTS"
INTERRUPTED = 130  # 128 and SIGINT's number
# kinds of failures
USER, BUG, STOPPED, ELSEWHERE, DIED, ABORTED = "user", "bug", "stopped", "elsewhere", "died", "aborted"


@dataclass(frozen=True)
class Failure:
    """Why a rank ended early.

    Attributes:
        rank: whose error it is.
        pid: the process that ended.
        time: when, in seconds since the epoch.
        kind: ``"user"``: an error that the user can fix; ``"bug"``: any other exception, ``text`` being its
            traceback; ``"stopped"``: by a signal, in good order; ``"elsewhere"``: rank 0 had a bug; ``"died"`` and
            ``"aborted"``: it left no report, only its exit code.
        text: the error.
        exit_code: of the command.
    """

    rank: int
    pid: int
    time: float
    kind: str
    text: str
    exit_code: int


def rank_of_environment() -> int:
    """Return this process's rank, 0 without torchrun."""
    return int(os.environ.get("RANK", "0"))


def failure_of(error: BaseException) -> Failure:
    """Return the failure that an exception of this process is."""
    rank = rank_of_environment()
    if isinstance(error, StoppedBySignal):
        kind, text, code = STOPPED, str(error), error.exit_code
    elif isinstance(error, KeyboardInterrupt):
        kind, text, code = STOPPED, "interrupted", INTERRUPTED
    elif not isinstance(error, UserError):
        kind, text, code = BUG, "".join(traceback.format_exception(error)), 1
    elif error.origin:
        kind, text, code, rank = USER, error.origin, 2, 0
    else:
        kind, text, code = USER if error.origin is None else ELSEWHERE, str(error), 2
    return Failure(rank, os.getpid(), time.time(), kind, text, code)


def leave_report(error: BaseException) -> Failure:
    """Leave a report for the launcher, if one waits for it; a rank's first report counts."""
    failure, folder = failure_of(error), os.environ.get(REPORTS)
    path = Path(folder or "", f"{rank_of_environment()}.json")
    # a launcher that has gone, or a full disk: the exit code says enough
    with contextlib.suppress(OSError):
        if folder and not path.exists():
            temporary = path.with_suffix(f".{failure.pid}")
            temporary.write_text(json.dumps(asdict(failure)))
            temporary.replace(path)
    return failure


def read_reports(folder: Path) -> dict[int, Failure]:
    """Return the reports that ranks have left, by the rank that left it."""
    return {int(path.stem): Failure(**json.loads(path.read_text())) for path in folder.glob("*.json")}


def is_launched() -> bool:
    """Whether a launcher reads what this process reports."""
    return REPORTS in os.environ


def print_error(error: UserError | StoppedBySignal | KeyboardInterrupt) -> int:
    """Print an error, unless another rank of this machine does; return the command's exit code."""
    failure, is_alone = failure_of(error), int(os.environ.get("WORLD_SIZE", "1")) == 1
    if failure.kind == STOPPED:
        is_printed = os.environ.get("LOCAL_RANK", "0") == "0"
    else:
        is_printed = is_alone or _is_first(failure.text)
    if is_printed:
        print(_line(failure.kind, failure.text, "" if is_alone else f"rank {failure.rank}"), file=sys.stderr)
    return failure.exit_code


def _is_first(text: str) -> bool:
    """Whether no other rank of this machine's torchrun has printed this error in this attempt."""
    # torchrun's: LOGS/RUN/attempt_A/LOCAL_RANK/error.json
    folder = Path(os.environ.get("TORCHELASTIC_ERROR_FILE", "")).parent.parent
    try:
        if folder.name.startswith("attempt_"):
            (folder / f"printed_{hashlib.sha256(text.encode()).hexdigest()[:16]}").touch(exist_ok=False)
    except OSError as error:
        return not isinstance(error, FileExistsError)
    return True


def _line(kind: str, text: str, where: str) -> str:
    """Return an error as it is printed."""
    return text if kind == STOPPED else f"error{where and f' ({where})'}: {escape_control(text)}"


def first_of(failures: Sequence[Failure]) -> Failure:
    """Return what made all end: a process that died without a report, else the earliest failure.

    That a process is dead is seen later than the errors that its end brings about elsewhere.
    """
    own = [failure for failure in failures if failure.kind != ELSEWHERE] or failures
    return min(own, key=lambda failure: (failure.kind != DIED, failure.time))


def summary(failures: Sequence[Failure], ranks: int) -> str:
    """Return what a launcher prints: each of the user's errors once, or the traceback of the first rank that failed.

    ``failures`` are of the ranks that failed by themselves, one or more; ``ranks`` is the number of all.
    """
    first = first_of(failures)
    shown = [failure for failure in sorted(failures, key=lambda f: f.rank) if failure.kind in (USER, DIED, STOPPED)]
    by_text: dict[tuple[str, str], list[int]] = {}
    for failure in shown if first in shown else [*shown, first]:
        by_text.setdefault((failure.kind, failure.text), []).append(failure.rank)
    lines = []
    for (kind, text), of in by_text.items():
        if kind == BUG:
            lines.append(f"{text}error: rank {of[0]} failed (above)")
        elif len(of) == ranks or kind in (DIED, ABORTED):
            lines.append(_line(kind, text, ""))
        else:
            whose = sorted(set(of))
            lines.append(_line(kind, text, f"rank{'s' if len(whose) > 1 else ''} {', '.join(map(str, whose))}"))
    return "\n".join(lines)


def failure_of_process(rank: int, pid: int, code: int) -> Failure:
    """Return the failure of a process that left no report; an exit code below 0 is the signal that killed it."""
    who = f"rank {rank} (process {pid})"
    if code >= 0:
        return Failure(rank, pid, time.time(), DIED, f"{who} ended with exit code {code}, without an error", code)
    # a real-time signal has no name
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    hint = "; the system does so when memory is used up" if name == "SIGKILL" else ""
    # a process aborts in consequence of another's failure, too: then that one was earlier
    kind = ABORTED if name == "SIGABRT" else DIED
    return Failure(rank, pid, time.time(), kind, f"{who} was killed by {name}{hint}", 128 - code)
