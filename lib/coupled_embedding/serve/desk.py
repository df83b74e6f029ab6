"""Requests wait in a bounded queue; one thread decodes images and runs the network, so that memory is bounded, too."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from fastapi import HTTPException, Request

from coupled_embedding.data.sources import Pixels
from coupled_embedding.serve.uploads import Limits, decode_upload, discard, read_upload

Result = TypeVar("Result")


class ClientLeft(Exception):  # noqa: N818  it is not an error
    """The client has closed its connection and will not read an answer."""


class Desk:
    """Takes uploads in, and answers each in turn.

    Args:
        limits: of requests.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.waiting = 0  # requests that hold a place in the queue
        self._seconds = 1.0  # that the last answer took
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="serve")

    async def answer(self, request: Request, work: Callable[[Pixels], Result]) -> Result:
        """Return what ``work`` makes of the image that a request brings; it runs in the one thread.

        Raises:
            HTTPException: the queue is full (503), the answer takes too long (503), or the upload is invalid (4xx).
            ClientLeft: the client did not wait for the answer.
        """
        if self.waiting >= self.limits.queue:
            await discard(request.stream(), self.limits.bytes)
            raise self._busy(f"{self.waiting} requests are waiting already; try again later")
        with self._place():
            content = await read_upload(request, self.limits)
            return await self._result(request, self.submit(lambda: work(decode_upload(content, self.limits.pixels))))

    async def run(self, request: Request, work: Callable[[], Result]) -> Result:
        """Return what ``work`` returns in the one thread, for a request without an upload; errors as for `answer`."""
        if self.waiting >= self.limits.queue:
            raise self._busy(f"{self.waiting} requests are waiting already; try again later")
        with self._place():
            return await self._result(request, self.submit(work))

    def submit(self, work: Callable[[], Result]) -> "Future[Result]":
        """Have the one thread do ``work`` after all that waits already; RuntimeError once it is closed."""
        return self._worker.submit(self._timed, work)

    def close(self) -> None:
        """End the thread after its present work; what waits gets no answer."""
        self._worker.shutdown(wait=True, cancel_futures=True)

    @contextmanager
    def _place(self) -> Iterator[None]:
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    def _timed(self, work: Callable[[], Result]) -> Result:
        start = time.perf_counter()
        try:
            return work()
        finally:
            self._seconds = time.perf_counter() - start

    async def _result(self, request: Request, job: "Future[Result]") -> Result:
        """Return a job's result; one whose client has left, or has waited for too long, is not begun any more."""
        answer, leaving = asyncio.wrap_future(job), asyncio.ensure_future(_until_left(request))
        try:
            either: set[asyncio.Future[Any]] = {answer, leaving}
            await asyncio.wait(either, timeout=self.limits.answer_seconds, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            if leaving.done():
                raise ClientLeft
            raise self._busy(f"no answer within {self.limits.answer_seconds:g} s; try again later")
        finally:
            job.cancel()  # at once; that of `answer` would reach it in the loop's next turn
            answer.cancel()
            leaving.cancel()

    def _busy(self, message: str) -> HTTPException:
        seconds = math.ceil(max(1.0, self.waiting * self._seconds))
        return HTTPException(503, message, {"Retry-After": str(seconds)})


async def _until_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
