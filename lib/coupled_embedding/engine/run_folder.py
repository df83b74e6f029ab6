"""A run's folder: where a training starts from, and what it must not overwrite."""

import re
from pathlib import Path

from coupled_embedding.engine.checkpointer import latest_valid, list_checkpoints, remove_partial
from coupled_embedding.utils.distributed import DistEnv, gather, run_on_rank0
from coupled_embedding.utils.errors import UserError

_EARLIER_END = re.compile(r"final_(\d+)_epochs\.pth")


def find_start(folder: Path, resume: str | None, env: DistEnv) -> tuple[Path | None, list[str]]:
    """Return the checkpoint that a training starts from (None: none), and what is wrong with later ones.

    The folder is created. Ranks that torchrun has restarted continue from the folder's latest checkpoint,
    whatever they were started with; without one they do as at first.

    Args:
        folder: of the run.
        resume: None: start from scratch; ``"auto"``: continue from the latest checkpoint if there is one;
            else the path of the checkpoint to continue from.
        env: this rank.

    Raises:
        UserError: the folder already holds a run, cannot be written, or is not seen by all ranks.
    """
    start, problems = run_on_rank0(lambda: _choose(folder, resume, env.restarts > 0), env)
    if not all(gather(start is None or start.is_file(), env)):
        raise UserError(f"not every rank sees {start}: several machines need a shared folder")
    run_on_rank0(lambda: _prepare(folder), env)
    return start, [f"warning: {problem}; using the checkpoint before it" for problem in problems]


def _choose(folder: Path, resume: str | None, restarted: bool) -> tuple[Path | None, list[str]]:
    checkpoints = list_checkpoints(folder)
    if resume == "auto" or (restarted and checkpoints):
        if checkpoints:
            return latest_valid(folder)
        _check_unused(folder, f"its checkpoints are gone, so it cannot be continued; {_from_weights(folder)}")
        return None, []
    if resume is None:
        _check_unused(folder, "continue it with --resume")
        return None, []
    if not Path(resume).is_file():
        known = ", ".join(path.name for path in checkpoints) or "none"
        raise UserError(f"--resume {resume}: no such checkpoint; {folder} holds {known}")
    newer = [path for path in checkpoints if path.name > Path(resume).name]
    if newer and Path(resume).resolve().parent == folder.resolve():
        raise UserError(
            f"{folder} holds newer checkpoints ({newer[-1].name}), which continuing from {Path(resume).name} would mix "
            "with; move them and best.pth away first"
        )
    return Path(resume), []


def _check_unused(folder: Path, advice: str) -> None:
    """Raise UserError if a folder holds what a run would replace."""
    if list_checkpoints(folder) or any((folder / name).exists() for name in ("best.pth", "final.pth")):
        raise UserError(
            f"{folder} already holds a run; {advice}, or give the new one another folder: NAME some_name or "
            "OUTPUT_DIR some_folder"
        )


def _from_weights(folder: Path) -> str:
    """Return how to train on from a run's weights alone."""
    found = [folder / name for name in ("best.pth", "final.pth") if (folder / name).is_file()]
    return f"start another run from its weights, NAME some_name MODEL.INIT_FROM {found[0]}" if found else "start again"


def _prepare(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_partial(folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot write the run's folder ({error.strerror}); see OUTPUT_DIR") from error


def set_final_aside(folder: Path, epochs: int, epochs_now: int) -> str:
    """Rename the last weights of a run that is trained longer, so that ``final.pth`` is always of the present end.

    Args:
        folder: of the run.
        epochs: after which the run ended, or was to end.
        epochs_now: after which it ends now.

    Returns:
        What was done, in words; empty: the run goes on to the same end, or had not ended.

    Raises:
        UserError: the file cannot be renamed.
    """
    final = folder / "final.pth"
    if epochs == epochs_now or not final.is_file():
        return ""
    aside = folder / f"final_{epochs}_epochs.pth"
    try:
        final.replace(aside)
    except OSError as error:
        raise UserError(f"{final}: cannot be renamed to {aside.name} ({error.strerror})") from error
    after = f"{epochs} epoch{'s' if epochs > 1 else ''}"
    return f"trained longer: {epochs_now} epochs instead of {epochs}; the weights after {after} are {aside}"


def earlier_ends(folder: Path) -> list[int]:
    """Return after how many epochs a run ended before it was trained longer, in rising order."""
    return sorted(int(match[1]) for path in folder.iterdir() if (match := _EARLIER_END.fullmatch(path.name)))
