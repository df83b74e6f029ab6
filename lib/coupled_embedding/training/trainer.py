"""The training loop, visible at once."""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, fields
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from yacs.config import CfgNode

from coupled_embedding import checkpoint
from coupled_embedding.data.images import normalise
from coupled_embedding.data.loader import StepPlan, train_batches
from coupled_embedding.data.maps import PoseMaps
from coupled_embedding.data.targets import Targets
from coupled_embedding.data.train_dataset import TrainBatch, TrainDataset
from coupled_embedding.distributed import World, barrier
from coupled_embedding.errors import UserError
from coupled_embedding.inference.decode import build_decode_settings
from coupled_embedding.inference.estimator import PRECISIONS
from coupled_embedding.keypoints import KeypointSchema
from coupled_embedding.losses.criterion import LossTerms, build_criterion
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.training import statistics
from coupled_embedding.training.ema import MovingAverage
from coupled_embedding.training.logging import RunLog
from coupled_embedding.training.pictures import batch_picture
from coupled_embedding.training.schedule import build_schedule

# scores of a network on the validation split, main score first; the same on every process
Evaluate = Callable[[PoseNetwork], dict[str, float]]


@dataclass
class Progress:
    """Where the training stands."""

    step: int = 0
    best: float = float("-inf")
    best_step: int = 0


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
        self.optimizer = _adam(self.network, cfg)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=cfg.TRAIN.PRECISION == "fp16")
        self.average = MovingAverage(self.network, cfg.TRAIN.EMA) if cfg.TRAIN.EMA else None
        self.progress = Progress()
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
        finally:
            if log:
                log.close()
        if self.world.is_main:
            self._save(self.folder / "final.pth", scores)
        barrier(self.world)
        return scores

    def _step(self, batches: Iterator[TrainBatch], meter: "Meter", log: RunLog | None, with_figures: bool) -> None:
        """One optimizer step: forward and backward of each pass, then the update."""
        train = self.cfg.TRAIN
        rate = self.schedule(self.progress.step)
        for pass_ in range(train.ACCUMULATE):
            with meter.waiting():
                batch = next(batches).to(self.world.device)
            last = pass_ == train.ACCUMULATE - 1
            with nullcontext() if last or self.world.size == 1 else self.parallel.no_sync():  # type: ignore[operator]
                maps, targets, terms = self._forward(batch)
                # every photo of the step weighs the same, however the photos are dealt out
                share = len(batch.images) * self.world.size / batch.step_images
                self.scaler.scale(terms.total * share).backward()
            meter.add(terms, share, batch)
        self.scaler.unscale_(self.optimizer)
        limit = train.CLIP_GRAD or float("inf")
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), limit) if with_figures or train.CLIP_GRAD else None
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average:
            self.average.update(self.network)
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

    def _forward(self, batch: TrainBatch) -> tuple[PoseMaps, Targets, LossTerms]:
        precision = PRECISIONS.get(self.cfg.TRAIN.PRECISION)
        with torch.autocast(self.world.device.type, precision, enabled=precision is not None):
            maps = self.parallel(normalise(batch.images))
        targets = batch.targets()
        return maps, targets, self.criterion(maps, targets, self.progress.step)

    def _end_epoch(self, log: RunLog | None) -> dict[str, float] | None:
        epoch = self.progress.step // self.steps_per_epoch
        train = self.cfg.TRAIN
        is_last = epoch == train.EPOCHS
        scores = None
        if self.evaluate and (is_last or (train.EVAL_EVERY and epoch % train.EVAL_EVERY == 0)):
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
            self.progress.best, self.progress.best_step = main, self.progress.step
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
                "best_step": self.progress.best_step,
            }
        checkpoint.save(content, path)

    def resume(self, path: Path) -> None:
        """Continue from a numbered checkpoint of the same config."""
        content = checkpoint.read_resumable(path)
        state = content["training"]
        checkpoint.load_strictly(self.network, state["model"], path)
        if self.average:
            checkpoint.load_strictly(self.average.network, content["model"], path)
            self.average.updates = state["average_updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.progress = Progress(content["step"], state["best"], state["best_step"])


class Meter:
    """Sums losses on the device between log steps, so that no step waits for the host."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.shown: dict[str, str] = {}
        self._reset()

    def _reset(self) -> None:
        self.losses: Tensor | None = None
        self.steps = 0.0
        self.photos = 0
        self.dropped = 0
        self.wait = 0.0
        self.start = time.perf_counter()

    def waiting(self) -> "_Waiting":
        """Return a context whose time counts as waiting for data."""
        return _Waiting(self)

    def add(self, terms: LossTerms, share: float, batch: TrainBatch) -> None:
        """Add a pass's losses; the shares of a step's passes and processes sum to their number."""
        losses = terms.stacked() * share
        self.losses = losses if self.losses is None else self.losses + losses
        self.steps += share
        self.photos += len(batch.images)
        self.dropped += batch.dropped_people

    def figures(self, maps: PoseMaps, targets: Targets, norm: Tensor) -> dict[str, float]:
        """Return the means since the last call, over all processes, and start anew."""
        assert self.losses is not None
        host = torch.tensor([self.steps, self.photos, self.dropped, self.wait], dtype=torch.float64)
        sums = torch.cat([self.losses.double(), host.to(self.losses.device)])
        if self.world.size > 1:
            dist.all_reduce(sums)
        stats = statistics.tag_statistics(maps, targets)
        # the one transfer to the host between log steps
        values = torch.cat([sums, norm.double()[None], stats.double()]).tolist()
        names = [field.name for field in fields(LossTerms)]
        seconds = time.perf_counter() - self.start
        steps, photos, dropped, wait, norm_value, *tags = values[len(names) :]
        figures = {f"loss/{name}": value / steps for name, value in zip(names, values, strict=False)}
        figures |= {f"tags/{name}": value for name, value in zip(statistics.NAMES, tags, strict=True)}
        figures["train/gradient_norm"] = norm_value
        figures["train/photos_per_second"] = photos / seconds
        figures["train/data_wait_share"] = wait / self.world.size / seconds
        figures["train/people_above_limit"] = dropped
        self.shown = {"loss": f"{figures['loss/total']:.5f}", "photos/s": f"{photos / seconds:.1f}"}
        self._reset()
        return figures


class _Waiting:
    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.meter.wait += time.perf_counter() - self.start


def _adam(network: nn.Module, cfg: CfgNode) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), cfg.TRAIN.LR, weight_decay=cfg.TRAIN.WEIGHT_DECAY, fused=True)


def _check_finite(figures: dict[str, float], step: int, batch: TrainBatch) -> None:
    broken = [name for name, value in figures.items() if name.startswith("loss/") and value - value != 0]
    if broken:
        raise UserError(
            f"step {step}: {', '.join(broken)} is not finite (last photos: {batch.image_ids}); "
            "lower TRAIN.LR, set TRAIN.CLIP_GRAD or use TRAIN.PRECISION bf16; earlier checkpoints are untouched"
        )
