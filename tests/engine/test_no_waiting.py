"""No step waits for the device: nothing of it is read on the host, and nothing is copied there and back."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import ModuleType

import pytest
import torch
from torch import nn
from yacs.config import CfgNode

from coupled_embedding.builders import build_criterion, build_model, build_optimizer, build_train_run
from coupled_embedding.config import load_config
from coupled_embedding.data.dataset import TrainBatch
from coupled_embedding.data.images import normalize
from coupled_embedding.engine import train as loop
from coupled_embedding.engine.nonfinite import NonFiniteGuard, nan_if_nonfinite
from coupled_embedding.engine.tag_statistics import tag_statistics
from coupled_embedding.optim.optimizer import step_if_finite
from coupled_embedding.utils.distributed import DistEnv, process_group

Tiny = Callable[..., CfgNode]
JOINTS, PEOPLE, SIZE = 14, 5, 64


def batch_on(device: torch.device, strides: tuple[int, ...]) -> TrainBatch:
    """A batch whose labels are unknown, so that any number of people and joints may be there."""
    sides = [SIZE // stride for stride in strides]
    with device:
        return TrainBatch(
            torch.zeros(2, SIZE, SIZE, 3, dtype=torch.uint8),
            tuple(torch.zeros(2, PEOPLE, JOINTS, 3) for _ in sides),
            tuple(torch.ones(2, side, side, dtype=torch.bool) for side in sides),
            torch.ones(2, PEOPLE),
            [1, 2],
            0,
            2,
        )


@pytest.mark.parametrize(("head", "optimizer"), [("plain", "adam"), ("higher", "muon")])
def test_a_step_on_a_gpu_needs_none_of_its_numbers(
    host_traffic: ModuleType, tiny_file: str, head: str, optimizer: str
) -> None:
    cfg = load_config(tiny_file, ["MODEL.HEAD", head, "TRAIN.OPTIMIZER", optimizer])
    with host_traffic.fake_cuda() as device:
        with device:
            network = build_model(cfg, JOINTS)
        batch = batch_on(device, network.strides)
        update = build_optimizer(cfg, network)
        # torch's autograd engine asks for a real GPU; the test below watches the backward pass
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        guard = NonFiniteGuard(DistEnv(0, 1, device), 20, [network])
        with host_traffic.HostTraffic() as traffic:
            output, targets = network(normalize(batch.images)), batch.targets()
            losses = build_criterion(cfg)(output, targets)
            nan_if_nonfinite(losses["total"])
            scalars = torch.cat([torch.stack([*losses.values()]), tag_statistics(output, targets)])
            norm = nn.utils.get_total_norm([parameter.grad for parameter in network.parameters()])
            nn.utils.clip_grads_with_norm_(network.parameters(), 1.0, norm)
            step_if_finite(update, ~norm.isfinite())
            guard.record(1, losses, norm, batch.image_ids)
        assert scalars.device == device
    assert traffic.seen == {}


@pytest.mark.parametrize(
    "options",
    [(), ("TRAIN.OPTIMIZER", "adam", "TRAIN.ACCUMULATE", "2", "TRAIN.EMA", "0.9", "TRAIN.CLIP_GRAD", "1.0")],
    ids=["plainly", "with everything"],
)
def test_a_step_of_the_trainer_reads_nothing_but_where_the_cpu_finds_targets(
    host_traffic: ModuleType, tiny: Tiny, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Counter[str]] = {}

    @contextmanager
    def watched(name: str) -> Iterator[None]:
        with host_traffic.HostTraffic() as traffic:
            yield
        seen[name] = seen.get(name, Counter()) + traffic.seen

    cfg = tiny("watched", *options)
    with process_group("cpu") as env:
        run = build_train_run(cfg, env)
        monkeypatch.setattr(loop, "record_function", watched)
        steps = loop.bare_steps(run, 3)
        next(steps)  # the loader draws its seed on the host
        seen.clear()
        with host_traffic.HostTraffic() as whole:
            assert len(list(steps)) == 2
    # a processor skips the background of each resolution's targets, and checks whether the gradient is finite before
    # the update; a GPU does neither, as the test above shows
    found = 2 * cfg.TRAIN.ACCUMULATE * len(run.state.model.strides)
    finite = {"_local_scalar_dense": 2}
    assert seen == {"losses": {"nonzero": found}, "data": {}, "network": {}, "backward": {}, "optimizer": finite}
    assert whole.seen == {"nonzero": found, **finite}


# ---- the watch itself


READING: dict[str, tuple[Callable[[torch.Tensor], object], str]] = {
    "item": (lambda x: x.sum().item(), "_local_scalar_dense"),
    "bool": (lambda x: bool((x > 0).any()), "_local_scalar_dense"),
    "mask": (lambda x: x[x > 0], "index with a mask"),
    "assigned mask": (lambda x: x.clone().__setitem__(x > 0, x.sum()), "index with a mask"),
    "where": (lambda x: torch.where(x > 0), "nonzero"),
    "select": (lambda x: x.masked_select(x > 0), "masked_select"),
    "unique": (lambda x: x.unique(), "_unique2"),
    "equal": (lambda x: torch.equal(x, x + 1), "equal"),
    "repeats": (lambda x: x.repeat_interleave(x.long()), "repeat_interleave"),
}


@pytest.mark.parametrize("name", READING)
@pytest.mark.parametrize("inference", [False, True])
def test_reads_are_seen_on_both_devices(host_traffic: ModuleType, name: str, inference: bool) -> None:
    read, watched = READING[name]
    with torch.inference_mode(inference):
        with host_traffic.HostTraffic() as traffic:
            read(torch.arange(3.0))
        assert watched in traffic.seen
        with host_traffic.fake_cuda() as device:
            x = torch.zeros(3, device=device)
            with host_traffic.HostTraffic() as traffic, suppress(RuntimeError):  # there is no number to read
                read(x)
            assert watched in traffic.seen
            with host_traffic.HostTraffic() as traffic, pytest.raises(RuntimeError, match="aten"):
                x.tolist()  # a processor's tensor gives its memory without an operation
            assert "_local_scalar_dense" in traffic.seen


@pytest.mark.parametrize("inference", [False, True])
def test_copies_are_seen_with_their_direction(host_traffic: ModuleType, inference: bool) -> None:
    with torch.inference_mode(inference), host_traffic.fake_cuda() as device, host_traffic.HostTraffic() as traffic:
        x = torch.zeros(3, device=device)
        on_host = torch.zeros(3)
        assert (x + 1).flip(0).device == device
        on_host.to(device, non_blocking=True)
        assert traffic.seen == {}
        for upload in (lambda: on_host.to(device), lambda: torch.tensor([1.0], device=device), lambda: x[[2, 0]]):
            upload()
        assert traffic.seen == {"blocking upload": 3}
        x.to("cpu", non_blocking=True)
        x.cpu()
        on_host.copy_(x)
        assert traffic.seen == {"blocking upload": 3, "download": 2}
