"""What the applications with a page share: who may ask, the page's files, errors as JSON, what a schema looks like."""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.data.sources import Pixels
from coupled_embedding.serve.desk import ClientLeft
from coupled_embedding.utils.errors import DatasetError
from coupled_embedding.visualize import person_color

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
PAGE = Path(__file__).with_name("page")
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_COLORS = 60  # of people that the page is given; more repeat them
_LEFT = 499  # a status that no client sees
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def new_app(
    title: str,
    hosts: Collection[str],
    *,
    start: Callable[[], object] = lambda: None,
    end: Callable[[], object] = lambda: None,
    private: bool = False,
) -> FastAPI:
    """Return an application without endpoints, whose every error is answered as JSON: {"error": text}.

    Args:
        title: in its description.
        hosts: host names by which it may be addressed: those of other sites may lead here (DNS rebinding); empty: any.
        start, end: called when the server starts and when it ends.
        private: whether pages of other sites may not even show what it answers.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        start()
        yield
        end()

    app = FastAPI(
        title=title,
        openapi_url="/api/openapi.json",
        docs_url=None,  # its pages load scripts from other sites
        redoc_url=None,
        lifespan=lifespan,
        dependencies=[Depends(_sender_checker(hosts, private))],
    )
    _add_error_handlers(app)
    return app


def add_files(app: FastAPI, folder: Path, *names: str) -> None:
    """Have an application answer with files of a folder, which are read now: index.html at /, others at their names."""
    for name in names:
        path = "/" if name == "index.html" else f"/{name}"
        app.get(path, include_in_schema=False)(_file((folder / name).read_bytes(), _TYPES[Path(name).suffix]))


def _file(content: bytes, media_type: str) -> Callable[[], Response]:
    return lambda: Response(content, media_type=media_type, headers=_HEADERS)


def describe_schema(schema: KeypointSchema) -> dict[str, Any]:
    """Return what the page's drawing needs to know of the joints."""
    return {
        "joints": list(schema.joints),
        "skeleton": [list(pair) for pair in schema.skeleton],
        "flip_pairs": [list(pair) for pair in schema.flip_pairs],
        "person_colors": ["#{2:02x}{1:02x}{0:02x}".format(*person_color(number)) for number in range(_COLORS)],
    }


def jpeg_response(image: Pixels) -> Response:
    """Return an answer with a (h, w, 3) uint8 BGR image."""
    done, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])
    if not done:
        raise RuntimeError(f"OpenCV cannot encode an image of {image.shape}")
    return Response(content.tobytes(), media_type="image/jpeg", headers=_HEADERS)


def _sender_checker(hosts: Collection[str], private: bool) -> Callable[[Request], None]:
    """Return a check of who sends a request: a browser would let any page use a server on its user's machine."""

    def check(request: Request) -> None:
        host = request.headers.get("host", "")
        if hosts and _host_name(host) not in hosts:
            raise HTTPException(403, f"this server is not {host:.100}; it is addressed as {', '.join(sorted(hosts))}")
        origin = request.headers.get("origin")
        other_site = origin is not None and origin.partition("://")[2].lower() != host.lower()
        guarded = request.method == "POST" or (private and request.url.path != "/")  # links may lead to the page
        if guarded and (other_site or request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin")):
            raise HTTPException(403, "pages of other sites may not use this server")

    return check


def _host_name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _add_error_handlers(app: FastAPI) -> None:
    """Have every error answered as JSON: {"error": text}."""

    def answer(status: int, text: str, headers: Any = None) -> JSONResponse:
        return JSONResponse({"error": text}, status, headers=headers)

    @app.exception_handler(StarletteHTTPException)
    async def http_error(_: Request, error: StarletteHTTPException) -> JSONResponse:
        return answer(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def validation_error(_: Request, error: RequestValidationError) -> JSONResponse:
        return answer(422, "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors()))

    @app.exception_handler(DatasetError)
    async def invalid_image(_: Request, error: DatasetError) -> JSONResponse:
        return answer(422, str(error))

    @app.exception_handler(ClientLeft)
    @app.exception_handler(ClientDisconnect)
    async def left(_: Request, error: Exception) -> Response:
        return Response(status_code=_LEFT)

    @app.exception_handler(Exception)
    async def bug(_: Request, error: Exception) -> JSONResponse:
        return answer(500, "the server failed on this image; its terminal says why")
