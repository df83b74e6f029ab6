"""Fixtures of tests of web pages: a real server in a thread, and headless Chromium."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Thread

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, Error, Page, sync_playwright

from coupled_embedding.serve.command import listen, url_of

Serving = Callable[[FastAPI], AbstractContextManager[str]]
PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


@pytest.fixture
def serving() -> Serving:
    """serving(app): a context with a server in a thread; its value is the address."""

    @contextmanager
    def serve(app: FastAPI) -> Iterator[str]:
        with listen("127.0.0.1", 0) as listener:
            server = uvicorn.Server(uvicorn.Config(app, http="h11", ws="none", log_level="critical"))
            thread = Thread(target=server.run, args=([listener],), daemon=True)
            thread.start()
            try:
                yield url_of(listener)
            finally:
                server.should_exit = True
                thread.join(20)
            assert not thread.is_alive()

    return serve


@pytest.fixture(scope="module")
def browser():
    """Chromium: the one of Playwright, or one on the PATH, such as Debian's chromium-headless-shell."""
    with sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, PROGRAMS)), None)
        try:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except Error as error:
            pytest.skip(f"needs Chromium (apt-get install chromium-headless-shell): {error.message:.100}")
        yield browser
        browser.close()


@contextmanager
def visiting(browser: Browser, url: str, where: str = "") -> Iterator[Page]:
    """Open a page; ``page.sent`` are its requests, all of which go to its own server, ``page.problems`` its errors."""
    with browser.new_context() as context:
        page = context.new_page()
        page.sent, page.problems = [], []
        page.on("request", lambda request: page.sent.append(request.url))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("console", lambda line: page.problems.append(line.text) if line.type == "error" else None)
        page.goto(url + where)
        yield page
        assert [sent for sent in page.sent if not sent.startswith((url, "blob:", "data:"))] == []
