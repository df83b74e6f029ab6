"""Running the converter in this process."""

import sys
from collections.abc import Callable

import pytest

import convert_dataset


@pytest.fixture(scope="session")
def convert() -> Callable[..., int]:
    """convert(source, argument, ...): run the command; return its exit code."""

    def run(*arguments: object) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["convert_dataset.py", *map(str, arguments)])
            try:
                convert_dataset.main()
            except SystemExit as ended:
                return int(ended.code or 0)
        return 0

    return run


@pytest.fixture
def refused(convert, capsys) -> Callable[..., str]:
    """refused(source, argument, ...): run the command, which must fail; return its error."""

    def run(*arguments: object) -> str:
        assert convert(*arguments) == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return error

    return run
