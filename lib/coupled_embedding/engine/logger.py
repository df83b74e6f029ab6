"""What a run writes: TensorBoard, a line of JSON per log step, a progress bar."""

import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from coupled_embedding.utils.atomic import atomic_write
from coupled_embedding.utils.errors import UserError


class Logger:
    """Writes the scalars and images of a run; on ranks other than 0 all methods return at once.

    What a stopped run logged after ``first_step`` is dropped, as those steps are repeated.

    Args:
        folder: of the run.
        total_steps: optimizer steps of the whole training.
        first_step: steps done before.
        validation_pending: whether the validation after ``first_step`` is repeated.
        enabled: whether this is rank 0.

    Raises:
        UserError: from any method: the files cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        total_steps: int,
        first_step: int = 0,
        validation_pending: bool = False,
        enabled: bool = True,
    ) -> None:
        self.folder, self.enabled = folder, enabled
        if not enabled:
            return
        with self._writing():
            self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1 if first_step else None)
            _drop_lines_after(folder / "metrics.jsonl", first_step, validation_pending)
            self.file = (folder / "metrics.jsonl").open("a", encoding="utf-8")
        # a log file gets a line now and then instead of a bar that redraws itself
        interval = 0.5 if sys.stderr.isatty() else 30.0
        self.bar = tqdm(
            total=total_steps, initial=first_step, unit="step", dynamic_ncols=True, smoothing=0.05, mininterval=interval
        )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self.folder}: cannot write the run's log ({error.strerror or error}); checkpoints are untouched"
            ) from error

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Log scalars by name, such as ``loss/total``."""
        if not self.enabled:
            return
        # JSON knows no NaN, which is what a metric without people to score is
        known = {name: value if math.isfinite(value) else None for name, value in values.items()}
        with self._writing():
            for name, value in values.items():
                self.board.add_scalar(name, value, step)
            self.file.write(json.dumps({"step": step, "time": round(time.time(), 3), **known}) + "\n")
            self.file.flush()

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Log a BGR image (h, w, 3)."""
        if self.enabled:
            with self._writing():
                self.board.add_image(name, image[..., ::-1].copy(), step, dataformats="HWC")

    def progress(self, scalars: dict[str, float] | None = None) -> None:
        """Advance the progress bar by a step; new scalars replace the ones next to it."""
        if not self.enabled:
            return
        if scalars:
            shown: dict[str, Any] = {"loss": f"{scalars['loss/total']:.5f}"}
            self.bar.set_postfix(shown | {"images/s": f"{scalars['train/images_per_second']:.1f}"}, refresh=False)
        self.bar.update()

    def info(self, text: str) -> None:
        """Print a line without tearing the progress bar."""
        if self.enabled and text:
            self.bar.write(text)

    def close(self) -> None:
        """Flush and close everything."""
        if not self.enabled:
            return
        self.bar.close()
        with self._writing():
            self.board.close()
            self.file.close()


def _drop_lines_after(path: Path, step: int, validation_pending: bool) -> None:
    """Keep a log's lines up to a step; a line that was cut off while it was written goes too."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
            again = validation_pending and entry["step"] == step and any(name.startswith("val/") for name in entry)
            if entry["step"] <= step and not again:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue
    atomic_write(path, "".join(kept), "the run's log")
