"""Where the time of training and testing goes: by stage, by operator, and event by event as a Chrome trace."""

import itertools
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function
from yacs.config import CfgNode

from coupled_embedding.data.geometry import fit_geometry
from coupled_embedding.data.test_dataset import InputBatch, InputDataset, input_batches, like_shaped_batches
from coupled_embedding.decode.pipeline import PoseEstimator, StageTimes, build_estimator_settings
from coupled_embedding.engine.evaluate import TestTask
from coupled_embedding.engine.run import build_trainer, run_folder
from coupled_embedding.utils.distributed import World
from coupled_embedding.utils.errors import UserError

WARM_UP, STEPS = 5, 20  # optimizer steps of a training, batches of a test
OPERATORS = 15  # rows of their table


class TracedTimes(StageTimes):
    """Stage times that wait for the device, under names that the trace shows.

    The trace is the main thread's: of a test's decode, which has threads of its own, only the
    time is told.
    """

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the block's time to a stage."""
        with super().measure(stage), record_function(stage):
            yield
            # a decode beside the network has no work on the device to wait for
            if torch.cuda.is_available() and threading.current_thread() is threading.main_thread():
                torch.cuda.synchronize()  # or its work would count to whoever waits for it later


def profile_training(cfg: CfgNode, world: World) -> str:
    """Train a few steps, without validation or checkpoint; the trace goes to the run's folder.

    Returns:
        A report, for the main process to print.

    Raises:
        UserError: what the config names is missing or wrong.
    """
    trainer, _ = build_trainer(cfg, world)
    times = TracedTimes()
    steps = trainer.bare_steps(WARM_UP + STEPS, times.measure)
    for _ in itertools.islice(steps, WARM_UP):
        pass
    return _profiled(steps, "step", times, run_folder(cfg) / "profile_train.json.gz", world)


def profile_test(task: TestTask, folder: Path, world: World) -> str:
    """Predict a few batches, over again if there are fewer; the trace goes to a folder.

    Returns:
        A report, for the main process to print.

    Raises:
        UserError: a photo cannot be read, or there is none.
    """
    estimator = PoseEstimator(task.network.eval(), build_estimator_settings(task.cfg, task.schema))
    for _ in estimator.run(_batches(task, WARM_UP, estimator)):
        pass
    times = TracedTimes()
    steps = (len(people) for _, people in estimator.run(_batches(task, STEPS, estimator), times))
    return _profiled(steps, "batch", times, folder / "profile_test.json.gz", world)


def _batches(task: TestTask, count: int, estimator: PoseEstimator) -> Iterable[InputBatch]:
    if not task.records:
        raise UserError(f"{task.split}: there are no photos to profile a test with")
    size, test = task.cfg.DATASET.INPUT_SIZE, task.cfg.TEST
    sizes = [fit_geometry((r.width, r.height), size).base_size for r in task.records]
    places = itertools.cycle(like_shaped_batches(sizes, test.IMAGES_PER_BATCH))
    chosen = list(itertools.islice(places, count))
    dataset = InputDataset(task.records, chosen, size, estimator.settings.scales, task.bad_input)
    loaded = input_batches(dataset, test.WORKERS, estimator.device.type == "cuda")
    # the first batch before the clock starts: it waits for the loader processes to come up
    return itertools.chain([next(loaded)], loaded)


def _profiled(steps: Iterable[int], unit: str, times: StageTimes, trace: Path, world: World) -> str:
    """Run steps, each of which yields its number of photos, and report on them."""
    times.seconds.clear()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (world.device.type == "cuda")
    with profile(activities=activities) as profiler:
        start = time.perf_counter()
        photos = list(steps)
        seconds = time.perf_counter() - start
    if not world.is_main:
        return ""
    trace.parent.mkdir(parents=True, exist_ok=True)
    profiler.export_chrome_trace(str(trace))
    heading = (
        f"{len(photos)} times a {unit} of {sum(photos) / len(photos):.4g} photos on {world.device}: "
        f"{1000 * seconds / len(photos):.1f} ms a {unit}, {sum(photos) / seconds:.2f} photos/s, while profiled"
    )
    stages = dict(times.seconds)
    if unit == "step":  # a test's decode runs beside the network: there is no rest
        stages["other"] = seconds - sum(stages.values())
    by_stage = _table("stage", unit, stages, seconds, len(photos))
    operators = _operators(profiler, world.device, set(stages))
    by_operator = _table("operator", unit, operators, sum(operators.values()), len(photos), OPERATORS)
    return f"{heading}\n\n{by_stage}\n\n{by_operator}\n\ntrace for chrome://tracing or ui.perfetto.dev: {trace}"


def _operators(profiler: profile, device: torch.device, stages: set[str]) -> dict[str, float]:
    """Return the seconds that each operator itself took on a device."""
    times = {}
    for event in profiler.key_averages():
        # a GPU's kernels are listed too, beside the operators that they belong to
        if event.device_type == DeviceType.CPU and event.key not in stages:
            own = event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
            times[event.key] = own / 1e6
    return times


def _table(what: str, unit: str, seconds: dict[str, float], total: float, count: int, rows: int | None = None) -> str:
    """Return names with their seconds as Markdown, the longest first."""
    longest = sorted(seconds.items(), key=lambda item: -item[1])[:rows]
    lines = [f"| {what} | ms a {unit} | share |", "| --- | --: | --: |"]
    lines += [f"| {name} | {1000 * s / count:.1f} | {s / total:.1%} |" for name, s in longest]
    return "\n".join(lines)
