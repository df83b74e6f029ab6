"""What all processes know of each other."""

import os

import pytest

from coupled_embedding.utils.distributed import gather, process_group
from coupled_embedding.utils.errors import UserError

pytestmark = pytest.mark.distributed


def restarts_where_one_machine_failed() -> tuple[int, list[int]]:
    # torchrun on the first machine only noticed that the second one's processes had to start again
    os.environ["GROUP_WORLD_SIZE"] = "2"
    os.environ["TORCHELASTIC_RESTART_COUNT"] = "1" if os.environ["RANK"] == "1" else "0"
    with process_group("cpu") as env:
        return env.restarts, gather(env.rank, env)


def test_all_processes_know_of_a_restart_that_one_machine_counts(together) -> None:
    assert together(2, restarts_where_one_machine_failed) == [(1, [0, 1])] * 2


def test_restarts_on_several_machines_need_a_store_a_start(monkeypatch) -> None:
    several = {"WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "2", "TORCHELASTIC_MAX_RESTARTS": "3"}
    for name, value in {**several, "TORCHELASTIC_USE_AGENT_STORE": "True"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="with TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"), process_group("cpu"):
        pass
