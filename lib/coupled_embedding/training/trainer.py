"""The training loop, visible at once."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from yacs.config import CfgNode

from coupled_embedding import checkpoint
from coupled_embedding.config import config_to_dict
from coupled_embedding.data.images import normalise
from coupled_embedding.data.loader import StepPlan, train_batches
from coupled_embedding.data.maps import PoseMaps
from coupled_embedding.data.targets import Targets
from coupled_embedding.data.train_dataset import TrainBatch, TrainDataset
from coupled_embedding.distributed import World, barrier, copy_buffers
from coupled_embedding.errors import UserError
from coupled_embedding.inference.decode import build_decode_settings
from coupled_embedding.inference.estimator import PRECISIONS
from coupled_embedding.keypoints import KeypointSchema
from coupled_embedding.losses.criterion import LossTerms, build_criterion
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.training.ema import MovingAverage
from coupled_embedding.training.logging import RunLog
from coupled_embedding.training.meter import Meter
from coupled_embedding.training.optimizer import build_optimizer
from coupled_embedding.training.pictures import batch_picture
from coupled_embedding.training.schedule import build_schedule
from coupled_embedding.training.skipped import SkippedPhotos

# scores of a network on the validation split, main score first; the same on every process
Evaluate = Callable[[PoseNetwork], dict[str, float]]
# a named part of a step is run in the context that this gives for its name
Stage = Callable[[str], AbstractContextManager[Any]]


@dataclass
class Progress:
    """Where the training stands."""

    step: int = 0
    best: float = float("-inf")


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
        self.folder, self.world, self.evaluate = folder, world, evaluate
        self.network = self._place(network)
        self.parallel = self._parallel(self.network)
        self.criterion = build_criterion(cfg)
        self.optimizer = build_optimizer(self.network, cfg)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=cfg.TRAIN.PRECISION == "fp16")
        self.average = MovingAverage(self.network, cfg.TRAIN.EMA) if cfg.TRAIN.EMA else None
        self.progress = Progress()
        self.skipped = SkippedPhotos(dataset.bad_input, folder, world)
        self.stage: Stage = nullcontext  # nobody measures
        self.finished_scores: dict[str, float] = {}
        plan = self._plan(0, 0)
        self.steps_per_epoch = plan.steps_per_epoch
        self.total_steps = cfg.TRAIN.EPOCHS * plan.steps_per_epoch
        self.schedule = build_schedule(cfg, plan.steps_per_epoch)

    def _place(self, network: PoseNetwork) -> PoseNetwork:
        layout = torch.channels_last if self.cfg.TRAIN.CHANNELS_LAST else torch.contiguous_format
        network = network.to(self.world.device, memory_format=layout)  # type: ignore[call-overload]
        if self.world.size > 1 and self.world.device.type == "cuda" and self.cfg.TRAIN.SYNC_BN:
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return network

    def _parallel(self, network: PoseNetwork) -> nn.Module:
        forward: nn.Module = torch.compile(network) if self.cfg.TRAIN.COMPILE else network  # type: ignore[assignment]
        if self.world.size == 1:
            return forward
        devices = [self.world.device] if self.world.device.type == "cuda" else None
        return DistributedDataParallel(forward, device_ids=devices, gradient_as_bucket_view=True)

    def _plan(self, first_step: int, last_step: int) -> StepPlan:
        train = self.cfg.TRAIN
        return StepPlan(
            len(self.dataset),
            train.IMAGES_PER_GPU,
            train.ACCUMULATE,
            self.world.rank,
            self.world.size,
            self.cfg.SEED,
            first_step,
            last_step,
        )

    @property
    def tested_network(self) -> PoseNetwork:
        """The network that is tested and saved: the averaged one if the run averages."""
        return self.average.network if self.average else self.network  # type: ignore[return-value]

    def train(self) -> dict[str, float]:
        """Train to the last epoch; return the last validation's scores (empty without one)."""
        if self.progress.step >= self.total_steps:
            return self.finished_scores
        plan = self._plan(self.progress.step, self.total_steps)
        batches = train_batches(self.dataset, plan, self.cfg.TRAIN.WORKERS, self.world.device.type == "cuda")
        log = RunLog(self.folder, self.total_steps, self.progress.step) if self.world.is_main else None
        meter = Meter(self.world)
        scores: dict[str, float] = {}
        try:
            while self.progress.step < self.total_steps:
                self.network.train()
                with_figures = (self.progress.step + 1) % self.cfg.TRAIN.LOG_EVERY == 0
                self._step(batches, meter, log, with_figures)
                if log:
                    log.advance(**meter.shown)
                if self.progress.step % self.steps_per_epoch == 0:
                    scores = self._end_epoch(log) or scores
                    meter.restart()
        except RuntimeError as error:
            self.dataset.name_dead_worker(error)
            raise
        finally:
            if log:
                log.close()
        if self.world.is_main:
            self._save(self.folder / "final.pth", scores)
        barrier(self.world)
        return scores

    def bare_steps(self, count: int, stage: Stage) -> Iterator[int]:
        """Do optimizer steps in each stage's context, without log, validation or checkpoint.

        Yields:
            The number of photos of each step, of all processes.
        """
        self.stage = stage
        train = self.cfg.TRAIN
        batches = train_batches(self.dataset, self._plan(0, count), train.WORKERS, self.world.device.type == "cuda")
        self.network.train()
        for _ in range(count):
            meter = Meter(self.world)
            self._step(batches, meter, None, False)
            yield meter.photos * self.world.size

    def _step(self, batches: Iterator[TrainBatch], meter: Meter, log: RunLog | None, with_figures: bool) -> None:
        """One optimizer step: forward and backward of each pass, then the update."""
        train = self.cfg.TRAIN
        rate = self.schedule(self.progress.step)
        for pass_ in range(train.ACCUMULATE):
            with self.stage("data"), meter.waiting():
                batch = next(batches).to(self.world.device)
            last = pass_ == train.ACCUMULATE - 1
            with nullcontext() if last or self.world.size == 1 else self.parallel.no_sync():  # type: ignore[operator]
                maps, targets, terms = self._forward(batch)
                # every photo of the step weighs the same, however the photos are dealt out
                share = len(batch.images) * self.world.size / batch.step_images
                with self.stage("backward"):
                    self.scaler.scale(terms.total * share).backward()
            meter.add(terms, share, batch)
            self.skipped.add(batch)
        with self.stage("optimizer"):
            norm = self._update(rate, with_figures or train.CLIP_GRAD > 0)
        self.progress.step += 1
        if with_figures:
            assert norm is not None
            figures = meter.figures(maps, targets, norm)
            _check_finite(figures, self.progress.step, batch)
            if log:
                log.figures(self.progress.step, {**figures, "train/learning_rate": rate})
        if log and train.PICTURES_EVERY and self.progress.step % train.PICTURES_EVERY == 0:
            settings = build_decode_settings(self.cfg, self.schema)
            picture = batch_picture(batch, maps, self.schema, settings, self.network.strides[0])
            log.picture(self.progress.step, "batch", picture)

    def _update(self, rate: float, with_norm: bool) -> Tensor | None:
        """Update the weights; return the gradient's norm before clipping if asked for."""
        self.scaler.unscale_(self.optimizer)
        limit = self.cfg.TRAIN.CLIP_GRAD or float("inf")
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), limit) if with_norm else None
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average:
            self.average.update(self.network)
        return norm

    def _forward(self, batch: TrainBatch) -> tuple[PoseMaps, Targets, LossTerms]:
        precision = PRECISIONS.get(self.cfg.TRAIN.PRECISION)
        with (
            self.stage("network"),
            torch.autocast(self.world.device.type, precision, enabled=precision is not None),
        ):
            maps = self.parallel(normalise(batch.images))
        with self.stage("losses"):
            targets = batch.targets()
            return maps, targets, self.criterion(maps, targets, self.progress.step)

    def _end_epoch(self, log: RunLog | None) -> dict[str, float] | None:
        epoch = self.progress.step // self.steps_per_epoch
        train = self.cfg.TRAIN
        self.skipped.tell(log, epoch)
        is_last = epoch == train.EPOCHS
        scores = None
        if self.evaluate and (is_last or (train.EVAL_EVERY and epoch % train.EVAL_EVERY == 0)):
            copy_buffers(self.tested_network, self.world)
            scores = self.evaluate(self.tested_network)
            self._keep_best(scores, log, epoch)
        if self.world.is_main and (is_last or epoch % train.SAVE_EVERY == 0):
            self._save(checkpoint.checkpoint_path(self.folder, self.progress.step), scores or {}, resumable=True)
            checkpoint.keep_latest(self.folder, train.KEEP)
        return scores

    def _keep_best(self, scores: dict[str, float], log: RunLog | None, epoch: int) -> None:
        name, main = next(iter(scores.items()))
        is_best = main > self.progress.best
        if is_best:
            self.progress.best = main
        if log:
            if is_best:
                self._save(self.folder / "best.pth", scores)
            log.figures(self.progress.step, {f"val/{key}": value for key, value in scores.items()})
            log.say(f"epoch {epoch}: {self.cfg.DATASET.VAL} {name} {main:.4f}{' (best so far)' if is_best else ''}")

    def _save(self, path: Path, scores: dict[str, float], resumable: bool = False) -> None:
        weights = self.tested_network.state_dict()
        content = checkpoint.describe(self.cfg, self.schema, weights, scores, self.progress.step)
        if resumable:
            content["training"] = {
                "model": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "average_updates": self.average.updates if self.average else 0,
                "best": self.progress.best,
                "steps_per_epoch": self.steps_per_epoch,
            }
        checkpoint.save(content, path)

    def resume(self, path: Path) -> None:
        """Continue from a numbered checkpoint of the same config.

        Raises:
            CheckpointError: it is no such checkpoint.
            UserError: its config differs in anything that changes the training.
        """
        content = checkpoint.read_resumable(path)
        checkpoint.check_same_training(content["config"], config_to_dict(self.cfg), path)
        state = content["training"]
        if state["steps_per_epoch"] != self.steps_per_epoch:
            raise UserError(
                f"{path}: had {state['steps_per_epoch']} steps an epoch, this run has {self.steps_per_epoch}: another "
                "number of processes or photos; continue with the same"
            )
        checkpoint.load_strictly(self.network, state["model"], path)
        if self.average:
            checkpoint.load_strictly(self.average.network, content["model"], path)
            self.average.updates = state["average_updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.progress = Progress(content["step"], state["best"])
        self.finished_scores = content["metrics"]


def _check_finite(figures: dict[str, float], step: int, batch: TrainBatch) -> None:
    broken = [name for name, value in figures.items() if name.startswith("loss/") and value - value != 0]
    if broken:
        raise UserError(
            f"step {step}: {', '.join(broken)} is not finite (last photos: {batch.image_ids}); "
            "lower TRAIN.LR, set TRAIN.CLIP_GRAD or use TRAIN.PRECISION bf16; earlier checkpoints are untouched"
        )
