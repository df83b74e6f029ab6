"""Where the time of training and testing goes: by stage, by operator, and event by event as a Chrome trace."""

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from coupled_embedding.data.test_dataset import (
    TestBatch,
    TestDataset,
    build_test_loader,
    group_by_shape,
    input_geometry,
)
from coupled_embedding.decode.pipeline import InferencePipeline
from coupled_embedding.decode.stage_times import StageTimes
from coupled_embedding.engine.evaluate import EvalJob
from coupled_embedding.engine.train import TrainRun, bare_steps
from coupled_embedding.utils.distributed import DistEnv
from coupled_embedding.utils.errors import UserError

WARM_UP, STEPS = 5, 20  # optimizer steps of a training, batches of a test
ROWS = 15  # of a table
TRAIN_STAGES = ("data", "network", "losses", "backward", "optimizer")
TEST_STAGES = ("load", "network", "decode")


def profile_training(run: TrainRun) -> str:
    """Train a few steps, without validation or checkpoint; the trace goes to the run's folder.

    Returns:
        A report, for rank 0 to print.
    """
    steps = bare_steps(run, WARM_UP + STEPS)
    list(itertools.islice(steps, WARM_UP))
    return _profiled(steps, "step", TRAIN_STAGES, run.folder / "profile_train.json.gz", run.env)


def profile_test(job: EvalJob, folder: Path, env: DistEnv) -> str:
    """Predict a few batches, repeated if there are fewer; the trace goes to a folder.

    Returns:
        A report, for rank 0 to print.

    Raises:
        UserError: an image cannot be read, or there is none.
    """
    pipeline, times = job.new_pipeline(), StageTimes()
    list(pipeline.run(_batches(job, WARM_UP, pipeline)))
    steps = (len(poses) for _, poses in pipeline.run(_batches(job, STEPS, pipeline), times))
    return _profiled(steps, "batch", TEST_STAGES, folder / "profile_test.json.gz", env, times)


def _batches(job: EvalJob, count: int, pipeline: InferencePipeline) -> Iterable[TestBatch]:
    if not job.inputs:
        raise UserError(f"{job.split}: there are no images to profile a test with")
    sizes = [input_geometry(record, job.options.input_size).base_size for record in job.inputs]
    batches = itertools.cycle(group_by_shape(sizes, job.options.images_per_batch, job.options.input_size))
    chosen = list(itertools.islice(batches, count))
    dataset = TestDataset(job.inputs, chosen, job.options.input_size, pipeline.options.scales, job.policy)
    loader = build_test_loader(dataset, job.options.workers, pipeline.device.type == "cuda")
    # the first batch before the clock starts: it waits for the loader processes to come up
    return itertools.chain([next(loader)], loader)


def _profiled(
    steps: Iterator[int], unit: str, stages: Sequence[str], trace: Path, env: DistEnv, times: StageTimes | None = None
) -> str:
    """Run steps, each of which yields its number of images, and report on them.

    Args:
        stages: names of `record_function` ranges.
        times: of stages that run in other threads, which the profiler does not see.
    """
    on_gpu = env.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu) as profiler:
        start = time.perf_counter()
        images = list(steps)
        seconds = time.perf_counter() - start
    if not env.is_rank0:
        return ""
    trace.parent.mkdir(parents=True, exist_ok=True)
    profiler.export_chrome_trace(str(trace))
    events = profiler.key_averages()
    by_stage = {event.key: event.cpu_time_total / 1e6 for event in events if event.key in stages}
    if on_gpu:  # the host only starts kernels; their time is the device's
        by_stage |= {e.key: e.device_time_total / 1e6 for e in events if e.key in stages and e.device_time_total}
    # a GPU's kernels are listed too, besides the operators that they belong to
    operators = [event for event in events if event.device_type == DeviceType.CPU and event.key not in stages]
    own = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    by_operator = {event.key: getattr(event, own) / 1e6 for event in operators}
    by_stage |= times.seconds if times else {"other": seconds - sum(by_stage.values())}
    count = len(images)
    return (
        f"{count} times a {unit} of {sum(images) / count:.4g} images on {env.device}: "
        f"{1000 * seconds / count:.1f} ms a {unit}, {sum(images) / seconds:.2f} images/s, while profiled\n\n"
        f"{_table('stage', unit, by_stage, seconds, count)}\n\n"
        f"{_table('operator', unit, by_operator, sum(by_operator.values()), count)}\n\n"
        f"trace for chrome://tracing or ui.perfetto.dev: {trace}"
    )


def _table(what: str, unit: str, seconds: dict[str, float], total: float, count: int) -> str:
    """Return names with their seconds as Markdown, the longest first."""
    longest = sorted(seconds.items(), key=lambda item: -item[1])[:ROWS]
    lines = [f"| {what} | ms a {unit} | share |", "| --- | --: | --: |"]
    return "\n".join(lines + [f"| {name} | {1000 * s / count:.1f} | {s / total:.1%} |" for name, s in longest])
