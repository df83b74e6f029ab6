"""The queue: bounded, in order, without those that left or waited for too long; and fifty clients at once."""

import asyncio
import resource
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Lock

import cv2
import httpx
import numpy as np
import pytest
from fastapi import HTTPException, Request

from coupled_embedding.serve.app import create_app
from coupled_embedding.serve.desk import ClientLeft, Desk
from coupled_embedding.serve.uploads import Limits

IMAGE = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
CLIENTS = 50


def request_of(content: bytes = IMAGE, leaves: bool = False) -> Request:
    """Return a request whose client waits for ever, or leaves once it has sent its image."""
    messages = [{"type": "http.request", "body": content}] + [{"type": "http.disconnect"}] * leaves

    async def receive():
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


@contextmanager
def blocked(limits: Limits):
    """Yield a desk, and an async function that has it work until an event is set; close both in the end."""
    desk, begun, go_on = Desk(limits), Event(), Event()

    def work(_):
        begun.set()
        assert go_on.wait(20)
        return "first"

    async def start() -> Awaitable[str]:
        first = asyncio.create_task(desk.answer(request_of(), work))
        while not begun.is_set():
            await asyncio.sleep(0)
        return first

    try:
        yield desk, start, go_on
    finally:
        go_on.set()
        desk.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


def test_more_requests_than_the_queue_holds_are_refused_and_the_others_answered_in_order():
    order = []

    async def run() -> None:
        with blocked(Limits(queue=3)) as (desk, start, go_on):
            first = await start()
            others = [
                asyncio.create_task(desk.answer(request_of(), lambda _, n=n: order.append(n) or n)) for n in (1, 2)
            ]
            await until(lambda: desk.waiting == 3)
            for _ in range(3):
                with pytest.raises(HTTPException) as refused:
                    await desk.answer(request_of(), lambda _: order.append("never"))
                assert refused.value.status_code == 503
                assert int(refused.value.headers["Retry-After"]) >= 1
            go_on.set()
            assert await asyncio.gather(first, *others) == ["first", 1, 2]
            assert desk.waiting == 0
            assert await desk.answer(request_of(), lambda image: image.shape) == (8, 8, 3)

    asyncio.run(run())
    assert order == [1, 2]


def test_an_answer_that_takes_too_long_is_a_503_and_what_waited_is_not_computed():
    done = []

    async def run() -> None:
        with blocked(Limits(answer_seconds=0.05)) as (desk, start, go_on):
            first = await start()
            with pytest.raises(HTTPException, match="no answer within") as late:
                await desk.answer(request_of(), done.append)
            assert late.value.status_code == 503
            with pytest.raises(HTTPException, match="no answer within"):
                await first
            assert desk.waiting == 0
            go_on.set()

    asyncio.run(run())
    assert not done


def test_a_client_that_left_is_not_computed_for():
    done = []

    async def run() -> None:
        with blocked(Limits()) as (desk, start, go_on):
            first = await start()
            with pytest.raises(ClientLeft):
                await desk.answer(request_of(leaves=True), done.append)
            assert desk.waiting == 1
            go_on.set()
            assert await first == "first"

    asyncio.run(run())
    assert not done


def test_errors_give_their_place_back():
    async def run() -> None:
        desk = Desk(Limits(queue=1))
        for _ in range(3):
            with pytest.raises(HTTPException, match="not a JPEG"):
                await desk.answer(request_of(b"text"), str)
            with pytest.raises(ZeroDivisionError):
                await desk.answer(request_of(), lambda _: 1 // 0)
        assert await desk.answer(request_of(), np.shape) == (8, 8, 3)
        desk.close()

    asyncio.run(run())


# ---- fifty clients


class CountingPredictor:
    """A predictor that counts how many threads are in it, and waits until its gate is opened."""

    def __init__(self, predictor) -> None:
        self.predictor, self.inside, self.most, self.lock, self.gate = predictor, 0, 0, Lock(), Event()

    def __getattr__(self, name):
        return getattr(self.predictor, name)

    def __call__(self, image):
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            assert self.gate.wait(20)
            return self.predictor(image)
        finally:
            self.inside -= 1


@pytest.fixture
def queries(predictor, images):
    """For each client an image of its own, and its poses."""
    scenes = [cv2.imread(str(image)) for image in images]
    sized = [cv2.resize(scenes[n % len(scenes)], (60 + n, 80 + 2 * (n % 7))) for n in range(CLIENTS)]
    return [(cv2.imencode(".png", one)[1].tobytes(), predictor(one).to_dict()) for one in sized]


def is_its_own(answer: httpx.Response, expected) -> bool:
    found = answer.json()
    return all(found[name] == expected[name] for name in ("image_size", "predictions"))


def post_all(url: str, queries, refused: Event | None = None) -> list[httpx.Response]:
    with ThreadPoolExecutor(len(queries)) as pool, httpx.Client(timeout=60, limits=httpx.Limits()) as client:

        def post(query) -> httpx.Response:
            answer = client.post(f"{url}api/poses", content=query[0])
            if refused and answer.status_code == 503:
                refused.set()
            return answer

        return list(pool.map(post, queries))


def test_fifty_clients_at_once_get_their_own_answers_in_bounded_memory(predictor, queries, serving):
    counting = CountingPredictor(predictor)
    counting.gate.set()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with serving(create_app(counting, limits=Limits(queue=CLIENTS))) as url:
        for _ in range(2):
            answers = post_all(url, queries)
            assert [answer.status_code for answer in answers] == [200] * CLIENTS
            assert all(is_its_own(a, expected) for a, (_, expected) in zip(answers, queries, strict=True))
    assert counting.most == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # kB


def test_clients_that_a_full_queue_refuses_get_their_answers_when_they_come_again(predictor, queries, serving):
    gated = CountingPredictor(predictor)
    app = create_app(gated, limits=Limits(queue=8))
    with serving(app) as url:
        rounds = [queries]
        while rounds[-1] and len(rounds) <= CLIENTS:
            # nothing is answered before one is refused
            answers = post_all(url, rounds[-1], gated.gate)
            assert {answer.status_code for answer in answers} <= {200, 503}
            pairs = list(zip(answers, rounds[-1], strict=True))
            assert all("Retry-After" in answer.headers for answer, _ in pairs if answer.status_code == 503)
            assert all(is_its_own(answer, expected) for answer, (_, expected) in pairs if answer.status_code == 200)
            rounds.append([query for answer, query in pairs if answer.status_code == 503])
    assert len(rounds) > 2
    assert not rounds[-1]
    assert app.state.desk.waiting == 0
