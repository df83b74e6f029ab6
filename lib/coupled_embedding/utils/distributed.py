"""Ranks: torchrun's environment is read here, and by `failures` where an error is reported."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from coupled_embedding.utils.devices import choose_device
from coupled_embedding.utils.errors import UserError
from coupled_embedding.utils.failures import leave_report, rank_of_environment
from coupled_embedding.utils.launch import launch

Result = TypeVar("Result")
# ranks wait for rank 0 while it scores, renders or draws, and all wait for a loader that has stalled: it reports that
# after ten minutes (`data.io.worker_monitor`), which is NCCL's own limit too
TIMEOUT = timedelta(hours=2)


@dataclass(frozen=True)
class DistEnv:
    """This process.

    Attributes:
        rank, world_size: its number, and how many there are.
        device: on which it computes.
        restarts: how often torchrun has restarted the processes.
        local_ranks: processes on this machine.
    """

    rank: int
    world_size: int
    device: torch.device
    restarts: int = 0
    local_ranks: int = 1

    @property
    def is_rank0(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0


@contextmanager
def process_group(device: str = "") -> Iterator[DistEnv]:
    """Join torchrun's processes, or be the only one; leave when the block ends.

    Args:
        device: ``"cpu"``, ``"cuda"``, or empty: a GPU, or the CPU for a single rank without one.

    Raises:
        UserError: there is no usable GPU for this rank; the text says why.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local_rank = rank_of_environment(), int(os.environ.get("LOCAL_RANK", "0"))
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    chosen = choose_device(device, local_rank, size)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if size > 1:
        _connect(rank, size, chosen, restarts)
    has_failed = False
    try:
        # each machine's torchrun counts its own failures only, yet all processes must agree on what to do
        restarts = max(gather(restarts, DistEnv(rank, size, chosen)))
        yield DistEnv(rank, size, chosen, restarts, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    except (Exception, KeyboardInterrupt) as error:
        leave_report(error)  # now: the others fail as soon as this process leaves the group
        has_failed = True
        raise
    finally:
        # NCCL would wait for ranks that wait for this one; they notice when the process ends
        if size > 1 and not (has_failed and chosen.type == "cuda"):
            dist.destroy_process_group()


def _connect(rank: int, size: int, device: torch.device, restarts: int) -> None:
    on_gpu = device.type == "cuda"
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
            timeout=TIMEOUT,
            store=_store_of_attempt(restarts),
            rank=rank,
            world_size=size,
            device_id=device if on_gpu else None,
        )
    except RuntimeError as error:
        if "gloo" not in str(error).lower():
            raise
        raise UserError(
            f"rank {rank} cannot connect to the others: {str(error).splitlines()[0]:.200}. Between machines, name the "
            "network interface that connects them (see `ip addr`): GLOO_SOCKET_IFNAME=eth0, and NCCL_SOCKET_IFNAME for "
            "GPUs"
        ) from error


def _store_of_attempt(restarts: int) -> dist.Store | None:
    """Return the store by which the ranks connect; None for that of the environment.

    One store of torchrun's serves all its restarts. What killed processes left there would send the new ones to
    addresses where no process listens any more.

    Raises:
        UserError: restarts are asked for on several machines, whose torchruns would not even name the same store
            after a restart.
    """
    environment = os.environ
    if environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    if int(environment.get("GROUP_WORLD_SIZE", "1")) == 1:
        port, patience = int(environment["MASTER_PORT"]), timedelta(minutes=30)  # torch's own, for slow imports
        store = dist.TCPStore(environment["MASTER_ADDR"], port, is_master=False, timeout=patience)
        return dist.PrefixStore(f"attempt_{restarts}", store)
    if int(environment.get("TORCHELASTIC_MAX_RESTARTS", "0")):
        raise UserError(
            "--max-restarts on several machines: torchrun would lead restarted processes to different places; start it "
            "with TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in its environment and --rdzv-backend c10d"
        )
    return None


def relaunch_with_ranks(ranks: int, arguments: list[str]) -> None:
    """Run a command line, ``sys.argv``, again in several ranks on this machine, and exit as they do.

    Returns at once for fewer than 2, or in one of those ranks or torchrun's.
    """
    if ranks < 2 or "WORLD_SIZE" in os.environ:
        return
    sys.stdout.flush()
    sys.exit(launch(ranks, arguments))


def gather(value: Any, env: DistEnv) -> list[Any]:
    """Return every rank's value."""
    if env.world_size == 1:
        return [value]
    values: list[Any] = [None] * env.world_size
    dist.all_gather_object(values, value)
    return values


def run_on_rank0(compute: Callable[[], Result], env: DistEnv) -> Result:
    """Return on every rank what rank 0 computes; the others wait for it.

    Raises:
        UserError: on the other ranks, where rank 0 raises anything.
    """
    if env.world_size == 1:
        return compute()
    message: list[Any] = [None, "", ""]
    failure: BaseException | None = None
    if env.is_rank0:
        try:
            message[0] = compute()
        except BaseException as error:  # sent before it is raised, or the others would wait for ever
            failure, message[1] = error, f"process 0 failed: {type(error).__name__}: {error}"
            message[2] = str(error) if isinstance(error, UserError) else ""
    dist.broadcast_object_list(message, 0)
    if failure:
        raise failure
    if message[1]:
        passed_on = UserError(message[1])
        passed_on.origin = message[2]
        raise passed_on
    return message[0]


def broadcast_buffers(network: nn.Module, env: DistEnv) -> None:
    """Give every rank the buffers of rank 0.

    Without synchronized batch norm the running statistics of the last step, and averages of them, are each rank's
    own; one network must be tested, not several.
    """
    if env.world_size > 1:
        for buffer in network.buffers():
            dist.broadcast(buffer, 0)


def barrier(env: DistEnv) -> None:
    """Wait for all ranks."""
    if env.world_size > 1:
        dist.barrier()
