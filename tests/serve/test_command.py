"""The verb serve: what it listens at, what it warns of, its errors, and its end."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient

from coupled_embedding.serve.command import listen, url_of

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def serve(weights, monkeypatch, call_verb):
    """serve(option, ...): run the verb with a server that ends at once; return (printed, host, application)."""
    started = []
    monkeypatch.setattr(
        uvicorn.Server,
        "run",
        lambda self, sockets: started.extend((sockets[0].getsockname()[0], self.config.app)),
    )

    def run(*options: str, code: int = 0):
        printed = call_verb("serve", "--model", weights, "--device", "cpu", *options, code=code)
        return (printed, *(started or (None, None)))

    return run


def test_it_listens_at_this_machine_alone(serve):
    printed, host, app = serve("--port", "0")
    assert host == "127.0.0.1"
    assert re.search(r"at http://127\.0\.0\.1:\d+/ \(Ctrl-C ends it\)", printed)
    assert "warning" not in printed
    assert app.state.desk.limits.bytes == 20_000_000
    assert app.state.desk.limits.queue == 32


def test_another_address_is_warned_of_and_limits_are_options(serve):
    limits = ("--max-megabytes", "1.5", "--max-megapixels", "2", "--queue", "3", "--timeout", "4")
    printed, host, app = serve("--port", "0", "--host", "0.0.0.0", *limits)
    assert host == "0.0.0.0"
    assert "warning: --host 0.0.0.0: whoever reaches this machine can use the page" in printed
    found = app.state.desk.limits
    assert (found.bytes, found.pixels, found.queue, found.answer_seconds) == (1_500_000, 2_000_000, 3, 4)


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ((), 403),
        (("--allow-host", "poses.example"), 200),
        (("--host", "0.0.0.0"), 200),
        (("--host", "0.0.0.0", "--allow-host", "other.example"), 403),
    ],
)
def test_names_by_which_the_server_may_be_addressed(serve, options, status):
    client = TestClient(serve("--port", "0", *options)[2], "http://poses.example")
    assert client.get("/api/model").status_code == status
    assert client.get("/api/model", headers={"Host": "localhost"}).status_code == 200


@pytest.mark.parametrize("option", ["--max-megabytes", "--max-megapixels", "--queue", "--timeout"])
@pytest.mark.parametrize("value", ["0", "-1"])
def test_limits_that_let_nothing_in_are_errors(serve, option, value):
    assert f"error: {option} {value}: expected a number above 0" in serve(option, value, code=2)[0].replace(".0:", ":")


def test_addresses_that_cannot_be_had_are_errors(serve):
    with listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        assert f"--port {port}: cannot listen there" in serve("--port", port, code=2)[0]
    assert "--host no.such.host.invalid" in serve("--host", "no.such.host.invalid", code=2)[0]
    assert "--port 99999" in serve("--port", "99999", code=2)[0]


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "python_multipart"])
def test_packages_that_are_missing_are_named(serve, monkeypatch, package):
    for name in [name for name in sys.modules if name.startswith("coupled_embedding.serve.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    printed = serve("--port", "0", code=2)[0]
    assert f"serve needs the package {package}: pip install 'coupled-embedding[serve]'" in printed


def test_addresses_for_browsers():
    with listen("::1", 0) as listener:
        assert url_of(listener).startswith("http://[::1]:")


@pytest.mark.slow
def test_a_server_answers_until_it_is_interrupted(weights, images):
    command = (sys.executable, "tools/serve.py", "--model", weights, "--port", "0", "--device", "cpu")
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT / "lib"), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=CHECKOUT, env=environment, **pipes) as process:
        try:
            url = re.search(r"http://\S+", process.stdout.readline())[0]
            answer = httpx.post(f"{url}api/poses", content=images[0].read_bytes(), timeout=60)
            assert answer.json()["image_size"] == [96, 96]
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            process.kill()
        assert process.stdout.read() == ""
