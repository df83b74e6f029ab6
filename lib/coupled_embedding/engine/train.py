"""The training loop, from top to bottom."""

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.profiler import record_function

from coupled_embedding.data.dataset import TrainBatch
from coupled_embedding.data.gaussians import SIGMA
from coupled_embedding.data.images import normalize
from coupled_embedding.data.outputs import PoseOutput
from coupled_embedding.data.pafs import PafTargets
from coupled_embedding.data.targets import Targets
from coupled_embedding.engine.checkpointer import Checkpointer
from coupled_embedding.engine.invalid_images import InvalidImages
from coupled_embedding.engine.logger import Logger
from coupled_embedding.engine.metrics import Meter
from coupled_embedding.engine.nonfinite import NonFiniteGuard, nan_if_nonfinite
from coupled_embedding.engine.parallel import tuned_convolutions
from coupled_embedding.engine.signals import StopSignal
from coupled_embedding.engine.state import TrainState
from coupled_embedding.losses.criterion import PoseCriterion
from coupled_embedding.networks.pose_network import PRECISIONS, PoseNetwork
from coupled_embedding.optim.optimizer import set_learning_rate, step_if_finite
from coupled_embedding.utils.distributed import DistEnv, barrier, broadcast_buffers
from coupled_embedding.utils.errors import NonFiniteError, StoppedBySignal, UserError

# metrics of a network on the validation split, main metric first; the same on every rank
Evaluate = Callable[[PoseNetwork], dict[str, float]]
REMEDY = "Lower TRAIN.LR, set TRAIN.CLIP_GRAD or use TRAIN.PRECISION bf16; earlier checkpoints are untouched"


@dataclass(frozen=True)
class TrainOptions:
    """How a network is trained; the meanings are those of the options TRAIN in `config.defaults`."""

    epochs: int = 1
    accumulate: int = 1
    clip_grad: float = 0.0
    precision: str = "fp32"
    pixels: str = "imagenet"
    sigma: float = SIGMA
    beta: float = 0.0
    paf: PafTargets | None = None
    centers: bool = False
    log_every: int = 50
    visualize_every: int = 0
    eval_every: int = 0
    save_every: int = 1
    save_steps: int = 0
    max_nonfinite_steps: int = 20


@dataclass
class TrainRun:
    """A training: what the loop is handed."""

    model: nn.Module  # what a forward pass calls: the state's network, compiled or distributed
    criterion: PoseCriterion
    state: TrainState  # what changes
    schedule: Callable[[int], float]  # learning rate by step
    open_loader: Callable[[int, int], Generator[TrainBatch]]  # first and last step -> batches of this rank
    steps_per_epoch: int  # optimizer steps
    checkpointer: Checkpointer
    invalid: InvalidImages  # reports images that cannot be read
    env: DistEnv
    options: TrainOptions = TrainOptions()
    evaluate: Evaluate | None = None  # validation
    visualize: Callable[[TrainBatch, PoseOutput], NDArray[np.uint8]] | None = None  # draws a batch's first image
    # names the file that a loader process was reading when it died, of which torch reports by an error anywhere
    raise_if_worker_died: Callable[[RuntimeError], None] = lambda error: None
    val_split: str = ""
    metrics: dict[str, float] = field(default_factory=dict)  # of the last validation
    messages: list[str] = field(default_factory=list)  # to print before the start
    about: str = ""  # the run and its data, in words

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.options.epochs * self.steps_per_epoch

    @property
    def folder(self) -> Path:
        """Of the run."""
        return self.checkpointer.folder

    def new_guard(self) -> NonFiniteGuard:
        """Return a guard of the state's networks."""
        averaged = [self.state.ema.model] if self.state.ema else []
        return NonFiniteGuard(self.env, self.options.max_nonfinite_steps, [self.state.model, *averaged])


@dataclass(frozen=True)
class StepResult:
    """What an optimizer step's forward passes leave: losses (their sums), the last pass, and all images."""

    losses: dict[str, Tensor]
    batch: TrainBatch
    output: PoseOutput
    targets: Targets
    image_ids: list[int]


def train(run: TrainRun) -> dict[str, float]:
    """Train to the last epoch; return the last validation's metrics (empty without one).

    Raises:
        StoppedBySignal: SIGTERM or Ctrl-C came; a checkpoint to resume from is written.
        UserError: too many steps were not finite; or a file cannot be read or written.
    """
    state = run.state
    if state.step >= run.total_steps and not state.validation_pending and run.checkpointer.final.is_file():
        return run.metrics
    logger = Logger(run.folder, run.total_steps, state.step, state.validation_pending, run.env.is_rank0)
    try:
        with StopSignal(run.env) as stop, tuned_convolutions(True):
            _loop(run, logger, stop)
    except StoppedBySignal as signal:
        done = f"after step {state.step} of {run.total_steps}; {run.folder} is saved: continue with --resume"
        raise StoppedBySignal(signal.number, done) from None
    except RuntimeError as error:
        run.raise_if_worker_died(error)
        raise
    finally:
        logger.close()
    run.checkpointer.save_final(run.metrics)
    barrier(run.env)
    return run.metrics


def _loop(run: TrainRun, logger: Logger, stop: StopSignal) -> None:
    state, options = run.state, run.options
    if state.validation_pending:  # it was stopped during the validation
        validate(run, logger, stop)
    meter, guard = Meter(run.env), run.new_guard()
    with closing(run.open_loader(state.step, run.total_steps)) as loader:
        while state.step < run.total_steps:
            lr = run.schedule(state.step)
            result = forward_backward(run, loader, meter)
            grad_norm = optimizer_step(state, lr, options.clip_grad)
            state.step += 1

            is_log_step = state.step % options.log_every == 0
            guard.record(state.step, result.losses, grad_norm, result.image_ids)
            if is_log_step or guard.check_every_step:
                report_nonfinite(run, guard, logger)

            scalars = None
            if is_log_step:
                scalars = meter.compute(result.output, result.targets, grad_norm)
                scalars |= {"train/learning_rate": lr, "train/nonfinite_steps": guard.count}
                scalars |= {"train/overflows": guard.overflows} if state.scaler.is_enabled() else {}
                logger.scalars(state.step, scalars)
            if logger.enabled and run.visualize and _is_due(state.step, options.visualize_every):
                with suppress(NonFiniteError):  # reported elsewhere
                    logger.image(state.step, "batch", run.visualize(result.batch, result.output))
            logger.progress(scalars)

            ends_epoch = state.step % run.steps_per_epoch == 0
            state.validation_pending = ends_epoch and _is_validated(run)
            signal = stop.requested(now=ends_epoch)
            if signal or ends_epoch:
                run.invalid.report(logger, -(-state.step // run.steps_per_epoch))
            if signal or _is_saved(run):
                report_nonfinite(run, guard, logger)
                run.checkpointer.save(metrics={})  # those of a validation follow
            if signal:
                barrier(run.env)  # or torchrun would end rank 0 while it still writes
                raise StoppedBySignal(signal)
            if state.validation_pending:
                validate(run, logger, stop)
            if ends_epoch:
                meter.reset()
                guard.start_epoch()


def forward_backward(run: TrainRun, loader: Iterator[TrainBatch], meter: Meter) -> StepResult:
    """Add up the gradients of a step's forward passes.

    Every image of the step weighs the same, however the images are sharded over ranks and passes.
    """
    if not run.state.model.training:  # walking through the modules takes milliseconds
        run.state.model.train()
    sums: dict[str, Tensor] = {}
    image_ids: list[int] = []
    for number in range(run.options.accumulate):
        with record_function("data"), meter.data_time():
            batch = next(loader).to(run.env.device)
        is_last = number == run.options.accumulate - 1
        with nullcontext() if is_last else _without_sync(run.model):
            output, targets, losses = forward(run, batch)
            weight = len(batch.images) * run.env.world_size / batch.step_images
            with record_function("backward"):
                run.state.scaler.scale(nan_if_nonfinite(losses["total"]) * weight).backward()
        losses = {name: loss.detach() for name, loss in losses.items()}
        meter.add(losses, weight, batch)
        sums = {name: sums[name] + loss if sums else loss for name, loss in losses.items()}
        image_ids += batch.image_ids
        run.invalid.add(batch)
    return StepResult(sums, batch, output, targets, image_ids)


def forward(run: TrainRun, batch: TrainBatch) -> tuple[PoseOutput, Targets, dict[str, Tensor]]:
    """Return the network's output for a batch, its targets and the losses by name."""
    dtype = PRECISIONS[run.options.precision]
    with record_function("network"), torch.autocast(run.env.device.type, dtype, enabled=dtype is not None):
        output = run.model(normalize(batch.images, run.options.pixels))
    with record_function("losses"):
        targets = batch.targets(run.options.beta, run.options.sigma, run.options.paf, run.options.centers)
        return output, targets, run.criterion(output, targets, run.state.step)


def _without_sync(model: nn.Module) -> AbstractContextManager[None]:
    """Return a context in which gradients stay each rank's own."""
    return model.no_sync() if isinstance(model, nn.parallel.DistributedDataParallel) else nullcontext()


def optimizer_step(state: TrainState, lr: float, clip_grad: float = 0.0) -> Tensor:
    """Update the weights, if the gradient is finite; return its norm before clipping, a scalar tensor."""
    with record_function("optimizer"):
        state.scaler.unscale_(state.optimizer)
        parameters = [p for p in state.model.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in parameters])  # type: ignore[misc]
        if clip_grad:
            nn.utils.clip_grads_with_norm_(parameters, clip_grad, norm)
        set_learning_rate(state.optimizer, lr)
        if state.scaler.is_enabled():
            state.scaler.step(state.optimizer)
            state.scaler.update()
        else:
            step_if_finite(state.optimizer, norm.isfinite())
        state.optimizer.zero_grad(set_to_none=True)
        if state.ema:
            state.ema.update()
        return norm


def report_nonfinite(run: TrainRun, guard: NonFiniteGuard, logger: Logger) -> None:
    """Report steps that were not finite; stop if there were too many."""
    bad = guard.check(run.state.scaler)
    for step in bad:
        logger.info(str(step))
    if guard.is_over_limit:
        path, repeats = run.checkpointer.save_failure(bad[-1])
        barrier(run.env)  # or torchrun would end rank 0 while it still writes
        count = f"{guard.count} such steps, and TRAIN.MAX_NONFINITE_STEPS is {guard.limit}"
        again = f"--resume {path} does this very step again" if repeats else f"{path} is the state of now"
        raise UserError(f"{bad[-1]}; {count}. {REMEDY}. {again}")


def validate(run: TrainRun, logger: Logger, stop: StopSignal) -> None:
    """Evaluate at an epoch's end; keep the best network."""
    state = run.state
    assert run.evaluate is not None
    with stop.interruptible(), tuned_convolutions(False):
        broadcast_buffers(state.eval_model, run.env)
        try:
            run.metrics = run.evaluate(state.eval_model)
        except NonFiniteError as error:
            raise UserError(f"validation after step {state.step}: {error}. {REMEDY}") from error
        name, main = next(iter(run.metrics.items()))
        is_best = main > state.best  # False for NaN
        state.best = main if is_best else state.best
        if is_best:
            run.checkpointer.save_best(run.metrics)
        logger.scalars(state.step, {f"val/{key}": value for key, value in run.metrics.items()})
        epoch = state.step // run.steps_per_epoch
        logger.info(f"epoch {epoch}: {run.val_split} {name} {main:.4f}{' (best so far)' if is_best else ''}")
    state.validation_pending = False
    run.checkpointer.save(run.metrics)


def bare_steps(run: TrainRun, count: int) -> Iterator[int]:
    """Do optimizer steps without log, validation or checkpoint; yield each step's number of images, of all ranks."""
    with closing(run.open_loader(0, count)) as loader, tuned_convolutions(True):
        for step in range(count):
            meter = Meter(run.env)
            forward_backward(run, loader, meter)
            optimizer_step(run.state, run.schedule(step), run.options.clip_grad)
            run.state.step += 1
            yield meter.images * run.env.world_size


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _is_validated(run: TrainRun) -> bool:
    epoch = run.state.step // run.steps_per_epoch
    return run.evaluate is not None and (epoch == run.options.epochs or _is_due(epoch, run.options.eval_every))


def _is_saved(run: TrainRun) -> bool:
    step, options = run.state.step, run.options
    if _is_due(step, options.save_steps):
        return True
    epoch, steps_left = divmod(step, run.steps_per_epoch)
    # before a validation too, which may be interrupted
    return not steps_left and (
        run.state.validation_pending or step == run.total_steps or not epoch % options.save_every
    )
