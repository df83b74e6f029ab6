"""Folders with recorded numbers and real photos, and the rule that CI skips nothing it could run."""

import os
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
REFERENCE = Path(os.environ.get("CE_REFERENCE", CHECKOUT.parent / "shared" / "reference"))
PHOTOS = Path(os.environ.get("CE_PHOTOS", CHECKOUT.parent / "shared" / "photos"))

# a test that takes one of these arguments runs once for every file found in the reference folder
REFERENCE_CASES = {
    "state_dict_case": "state_dict/*.json",
    "forward_case": "parity/forward_*.npz",
    "losses_case": "parity/losses_*.npz",
    "targets_case": "parity/targets_*.npz",
    "train_transform_case": "parity/train_transform_*.npz",
    "decode_case": "parity/decode_*.npz",
}
# the only reasons for which CI may skip
SKIPS_ALLOWED_IN_CI = ("needs a GPU", "needs crowdposetools")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for name, pattern in REFERENCE_CASES.items():
        if name in metafunc.fixturenames:
            paths = sorted(REFERENCE.glob(pattern))
            missing = pytest.param(None, marks=pytest.mark.skip(f"no {pattern} in {REFERENCE} (see CE_REFERENCE)"))
            metafunc.parametrize(name, paths or [missing], ids=[path.stem for path in paths] or ["none"])


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr)
        if not any(allowed in reason for allowed in SKIPS_ALLOWED_IN_CI):
            _unexpected_skips.append(f"{report.nodeid}: {reason}")


_unexpected_skips: list[str] = []


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _unexpected_skips and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in _unexpected_skips:
        terminalreporter.write_line(f"CI must not skip: {line}", red=True)


def _folder(path: Path, variable: str) -> Path:
    if not path.is_dir():
        pytest.skip(f"no folder {path} (see {variable})")
    return path


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    return _folder(REFERENCE, "CE_REFERENCE")


@pytest.fixture(scope="session")
def photos_dir() -> Path:
    return _folder(PHOTOS, "CE_PHOTOS")


@pytest.fixture(scope="session")
def checkout() -> Path:
    return CHECKOUT
