"""Every reader against a modest number of hostile files; ``run.py`` feeds thousands."""

import tempfile
import warnings
from pathlib import Path
from random import Random

import pytest
from fuzz_targets import TARGETS, Target, attempt
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.bad_input


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_hostile_file_is_accepted_or_refused_with_a_clear_error(target: Target, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # where code that should not run would leave its mark
    if target.warm:
        target.warm(tmp_path)
    outcomes = []

    @settings(
        max_examples=40 // target.cost,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(seed=st.integers(0, 2**32))
    def feed(seed: int) -> None:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcomes.append(attempt(target, target.write(Random(seed), Path(folder)), Path(folder)))

    feed()
    assert "refused" in outcomes
