"""GPUs are seen by the runs that are for GPU tests alone; this file needs none."""

import os

import pytest
import torch


@pytest.mark.parametrize(
    ("expression", "selects"),
    [
        ("gpu", True),
        ("gpu and not slow", True),
        ("not slow and gpu", True),
        ("gpu and slow or distributed and gpu", True),
        ("", False),
        ("slow", False),
        ("not gpu", False),
        ("not slow and not gpu", False),
        ("gpu or slow", False),
        ("not (slow or gpu)", False),
    ],
)
def test_gpus_are_for_runs_of_gpu_tests_alone(
    pytestconfig: pytest.Config, checkout, expression: str, selects: bool
) -> None:
    conftest = pytestconfig.pluginmanager.get_plugin(str(checkout / "tests/conftest.py"))
    assert conftest.selects_gpu_tests_only(expression) is selects


def test_this_run_and_its_processes_see_no_gpu() -> None:
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert not torch.cuda.is_available()
