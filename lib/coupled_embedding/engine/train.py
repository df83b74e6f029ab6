"""The training loop, visible at once."""

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from coupled_embedding.data.dataset import TrainBatch, TrainDataset
from coupled_embedding.data.images import normalise
from coupled_embedding.data.loader import StepPlan, train_batches
from coupled_embedding.data.pose_output import PoseMaps
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.data.targets import Targets
from coupled_embedding.decode.decode import build_decode_settings
from coupled_embedding.decode.pipeline import PRECISIONS
from coupled_embedding.engine.batch_image import batch_picture
from coupled_embedding.engine.checkpointer import RunFiles
from coupled_embedding.engine.logger import RunLog
from coupled_embedding.engine.metrics import Meter
from coupled_embedding.engine.nonfinite import StepGuard, spoil_if_not_finite
from coupled_embedding.engine.parallel import build_parallel, build_placed
from coupled_embedding.engine.signals import StopSignals
from coupled_embedding.engine.skipped import SkippedPhotos
from coupled_embedding.engine.state import TrainingState
from coupled_embedding.losses.criterion import LossTerms, build_criterion
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.optim.ema import MovingAverage
from coupled_embedding.optim.optimizer import build_optimizer, step_unless
from coupled_embedding.optim.schedule import build_schedule
from coupled_embedding.utils.distributed import World, barrier, copy_buffers
from coupled_embedding.utils.errors import NotFiniteError, StoppedBySignal, UserError

# scores of a network on the validation split, main score first; the same on every process
Evaluate = Callable[[PoseNetwork], dict[str, float]]
REMEDY = "Lower TRAIN.LR, set TRAIN.CLIP_GRAD or use TRAIN.PRECISION bf16; earlier checkpoints are untouched"
# a named part of a step is run in the context that this gives for its name
Stage = Callable[[str], AbstractContextManager[Any]]


class Trainer:
    """Trains a network by a config.

    Args:
        cfg: the config.
        schema: the data set's joints.
        network: with its start weights, on the CPU.
        dataset: training samples.
        folder: of the run.
        world: this process among all.
        evaluate: validation, or None.
    """

    def __init__(
        self,
        cfg: CfgNode,
        schema: KeypointSchema,
        network: PoseNetwork,
        dataset: TrainDataset,
        folder: Path,
        world: World,
        evaluate: Evaluate | None = None,
    ) -> None:
        self.cfg, self.schema, self.dataset = cfg, schema, dataset
        self.world, self.evaluate = world, evaluate
        network = build_placed(network, cfg, world)
        self.parallel = build_parallel(network, cfg, world)
        self.criterion = build_criterion(cfg)
        self.state = TrainingState(
            network,
            build_optimizer(network, cfg),
            torch.amp.GradScaler(world.device.type, enabled=cfg.TRAIN.PRECISION == "fp16"),
            MovingAverage(network, cfg.TRAIN.EMA) if cfg.TRAIN.EMA else None,
        )
        self.skipped = SkippedPhotos(dataset.bad_input, folder, world)
        self.stage: Stage = nullcontext  # nobody measures
        self.scores: dict[str, float] = {}  # of the last validation
        self.steps_per_epoch = self._plan(0, 0).steps_per_epoch
        self.total_steps = cfg.TRAIN.EPOCHS * self.steps_per_epoch
        self.schedule = build_schedule(cfg, self.steps_per_epoch)
        self.files = RunFiles(folder, cfg, schema, self.state, self.steps_per_epoch, len(dataset), world)

    def _plan(self, first_step: int, last_step: int) -> StepPlan:
        train, world = self.cfg.TRAIN, self.world
        dealt = (train.IMAGES_PER_GPU, train.ACCUMULATE, world.rank, world.size)
        return StepPlan(len(self.dataset), *dealt, self.cfg.SEED, first_step, last_step, train.DROP_LAST)

    def train(self) -> dict[str, float]:
        """Train to the last epoch; return the last validation's scores (empty without one).

        Raises:
            StoppedBySignal: SIGTERM or Ctrl-C came; a checkpoint to go on from is written.
            UserError: too many steps were not finite; or a file cannot be read or written.
        """
        state, files = self.state, self.files
        if state.step >= self.total_steps and not state.untested and files.final.is_file():
            return self.scores
        log = RunLog(files.folder, self.total_steps, state.step, state.untested) if self.world.is_main else None
        try:
            with StopSignals(self.world) as stop:
                self._run(log, stop)
        except StoppedBySignal as signal:
            done = f"after step {state.step} of {self.total_steps}; {files.folder} is saved: continue with --resume"
            raise StoppedBySignal(signal.number, done) from None
        except RuntimeError as error:
            self.dataset.name_dead_worker(error)
            raise
        finally:
            if log:
                log.close()
        files.save_final(self.scores)
        barrier(self.world)
        return self.scores

    def _run(self, log: RunLog | None, stop: StopSignals) -> None:
        state, train = self.state, self.cfg.TRAIN
        if state.untested:  # it was stopped during the validation
            self._test(log, stop)
        meter, guard = Meter(self.world), self._guard()
        with closing(self._batches(self._plan(state.step, self.total_steps))) as batches:
            while state.step < self.total_steps:
                self._step(batches, meter, guard, log, (state.step + 1) % train.LOG_EVERY == 0)
                if log:
                    log.advance(**meter.shown)
                if self._after_step(guard, log, stop):
                    meter.restart()
                    guard.restart()

    def _after_step(self, guard: StepGuard, log: RunLog | None, stop: StopSignals) -> bool:
        """Save, test or stop where the time has come; return whether an epoch has ended."""
        state = self.state
        ends_epoch = state.step % self.steps_per_epoch == 0
        state.untested = ends_epoch and self._is_tested()
        signal = stop.agreed(now=ends_epoch)
        if signal or ends_epoch:
            self.skipped.tell(log, -(-state.step // self.steps_per_epoch))
        if signal or self._is_saved():
            self._look(guard, log)
            self.files.save_numbered({})
        if signal:
            barrier(self.world)  # or torchrun would end the main process while it still writes
            raise StoppedBySignal(signal)
        if state.untested:
            self._test(log, stop)
        return ends_epoch

    def bare_steps(self, count: int, stage: Stage) -> Iterator[int]:
        """Do optimizer steps in each stage's context, without log, validation or checkpoint.

        Yields:
            The number of photos of each step, of all processes.
        """
        self.stage = stage
        guard = self._guard()
        with closing(self._batches(self._plan(0, count))) as batches:
            for _ in range(count):
                meter = Meter(self.world)
                self._step(batches, meter, guard, None, False)
                yield meter.photos * self.world.size

    def _batches(self, plan: StepPlan) -> Generator[TrainBatch]:
        on_gpu = self.world.device.type == "cuda"
        return train_batches(self.dataset, plan, self.cfg.TRAIN.WORKERS, pin_memory=on_gpu)

    def _guard(self) -> StepGuard:
        averaged = [self.state.average.network] if self.state.average else []
        return StepGuard(self.world, self.cfg.TRAIN.MAX_BAD_STEPS, [self.state.network, *averaged])

    def _step(
        self, batches: Iterator[TrainBatch], meter: Meter, guard: StepGuard, log: RunLog | None, with_figures: bool
    ) -> None:
        """One optimizer step: forward and backward of each pass, then the update."""
        train, state = self.cfg.TRAIN, self.state
        state.network.train()
        rate = self.schedule(state.step)
        losses, image_ids = [], []
        for pass_ in range(train.ACCUMULATE):
            with self.stage("data"), meter.waiting():
                batch = next(batches).to(self.world.device)
            last = pass_ == train.ACCUMULATE - 1
            with nullcontext() if last or self.world.size == 1 else self.parallel.no_sync():  # type: ignore[operator]
                maps, targets, terms = self._forward(batch)
                # every photo of the step weighs the same, however the photos are dealt out
                share = len(batch.images) * self.world.size / batch.step_images
                with self.stage("backward"):
                    state.scaler.scale(spoil_if_not_finite(terms.total) * share).backward()
            meter.add(terms, share, batch)
            losses.append(terms.stacked())
            image_ids += batch.image_ids
            self.skipped.add(batch)
        with self.stage("optimizer"):
            norm = self._update(rate)
        state.step += 1
        guard.watch(state.step, torch.stack(losses).sum(0), norm, image_ids)
        if with_figures or guard.watchful:
            self._look(guard, log)
        if with_figures:
            figures = meter.figures(maps, targets, norm)
            if log:
                figures |= {"train/learning_rate": rate, "train/bad_steps": guard.count}
                figures |= {"train/overflows": guard.overflows} if state.scaler.is_enabled() else {}
                log.figures(state.step, figures)
        if log and train.PICTURES_EVERY and state.step % train.PICTURES_EVERY == 0:
            settings = build_decode_settings(self.cfg, self.schema)
            with suppress(NotFiniteError):  # a bad step is told elsewhere
                picture = batch_picture(batch, maps, self.schema, settings, state.network.strides[0])
                log.picture(state.step, "batch", picture)

    def _update(self, rate: float) -> Tensor:
        """Update the weights, if the gradient is finite; return its norm before clipping."""
        state = self.state
        state.scaler.unscale_(state.optimizer)
        parameters = [p for p in state.network.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in parameters])  # type: ignore[misc]
        if self.cfg.TRAIN.CLIP_GRAD:
            nn.utils.clip_grads_with_norm_(parameters, self.cfg.TRAIN.CLIP_GRAD, norm)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        if state.scaler.is_enabled():
            state.scaler.step(state.optimizer)
            state.scaler.update()
        else:
            step_unless(state.optimizer, ~norm.isfinite())
        state.optimizer.zero_grad(set_to_none=True)
        if state.average:
            state.average.update(state.network)
        return norm

    def _forward(self, batch: TrainBatch) -> tuple[PoseMaps, Targets, LossTerms]:
        precision = PRECISIONS.get(self.cfg.TRAIN.PRECISION)
        with (
            self.stage("network"),
            torch.autocast(self.world.device.type, precision, enabled=precision is not None),
        ):
            maps = self.parallel(normalise(batch.images, self.cfg.MODEL.PIXELS))
        with self.stage("losses"):
            targets = batch.targets()
            return maps, targets, self.criterion(maps, targets, self.state.step)

    def _look(self, guard: StepGuard, log: RunLog | None) -> None:
        """Tell of steps that were not finite; stop if they were too many."""
        bad = guard.settle(self.state.scaler)
        if log:
            for step in bad:
                log.say(str(step))
        if guard.is_over_limit:
            path, repeats = self.files.save_failure(bad[-1])
            barrier(self.world)  # or torchrun would end the main process while it still writes
            count = f"{guard.count} such steps, and TRAIN.MAX_BAD_STEPS is {guard.limit}"
            again = f"--resume {path} does this very step again" if repeats else f"{path} is the state of now"
            raise UserError(f"{bad[-1]}; {count}. {REMEDY}. {again}")

    def _is_tested(self) -> bool:
        train, epoch = self.cfg.TRAIN, self.state.step // self.steps_per_epoch
        every = train.EVAL_EVERY and epoch % train.EVAL_EVERY == 0
        return self.evaluate is not None and bool(epoch == train.EPOCHS or every)

    def _is_saved(self) -> bool:
        train, step = self.cfg.TRAIN, self.state.step
        if step % self.steps_per_epoch:
            return train.SAVE_STEPS > 0 and step % train.SAVE_STEPS == 0
        # before a validation too: it may take long, and be stopped
        return self.state.untested or step == self.total_steps or step // self.steps_per_epoch % train.SAVE_EVERY == 0

    def _test(self, log: RunLog | None, stop: StopSignals) -> None:
        """Validate at an epoch's end; keep the best network."""
        state = self.state
        assert self.evaluate is not None
        with stop.at_once():
            copy_buffers(state.tested_network, self.world)
            try:
                self.scores = self.evaluate(state.tested_network)
            except NotFiniteError as error:
                raise UserError(f"validation after step {state.step}: {error}. {REMEDY}") from error
            self._keep_best(log)
        state.untested = False
        self.files.save_numbered(self.scores)

    def _keep_best(self, log: RunLog | None) -> None:
        state = self.state
        name, main = next(iter(self.scores.items()))
        is_best = main > state.best
        state.best = max(main, state.best) if main == main else state.best
        if log:
            if is_best:
                self.files.save_best(self.scores)
            log.figures(state.step, {f"val/{key}": value for key, value in self.scores.items()})
            epoch = state.step // self.steps_per_epoch
            log.say(f"epoch {epoch}: {self.cfg.DATASET.VAL} {name} {main:.4f}{' (best so far)' if is_best else ''}")

    def resume(self, content: dict[str, Any], path: Path) -> None:
        """Continue from what `read_resumable` read; errors as of `RunFiles.restore`."""
        self.scores = self.files.restore(content, path)
