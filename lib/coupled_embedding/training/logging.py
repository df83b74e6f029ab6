"""What a run leaves behind: TensorBoard, a line of JSON per log step, a progress bar."""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm


class RunLog:
    """Writes figures and pictures of a run; only the main process has one.

    Args:
        folder: of the run.
        total_steps: optimizer steps of the whole training.
        first_step: steps done before.
    """

    def __init__(self, folder: Path, total_steps: int, first_step: int) -> None:
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1 if first_step else None)
        self.file = (folder / "metrics.jsonl").open("a", encoding="utf-8")
        # a log file gets a line now and then instead of a bar that redraws itself
        interval = 0.5 if sys.stderr.isatty() else 30.0
        self.bar = tqdm(
            total=total_steps, initial=first_step, unit="step", dynamic_ncols=True, smoothing=0.05, mininterval=interval
        )

    def figures(self, step: int, values: dict[str, float]) -> None:
        """Log figures by name, such as ``loss/total``."""
        for name, value in values.items():
            self.board.add_scalar(name, value, step)
        # JSON knows no NaN, which is what a score without people to score is
        known = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self.file.write(json.dumps({"step": step, "time": round(time.time(), 3), **known}) + "\n")
        self.file.flush()

    def picture(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Log a BGR picture (h, w, 3)."""
        self.board.add_image(name, image[..., ::-1].copy(), step, dataformats="HWC")

    def advance(self, **shown: Any) -> None:
        """Move the progress bar one step; ``shown`` replaces the figures behind it."""
        if shown:
            self.bar.set_postfix(shown, refresh=False)
        self.bar.update()

    def say(self, text: str) -> None:
        """Print a line without tearing the progress bar."""
        self.bar.write(text)

    def close(self) -> None:
        """Flush and close everything."""
        self.bar.close()
        self.board.close()
        self.file.close()
