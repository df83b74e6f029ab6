"""The web application: a page, ``/api/poses`` and ``/api/model`` for programs, and what the page shows beside."""

import logging
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import cv2
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

from coupled_embedding.data.sources import Pixels
from coupled_embedding.predictor import Predictor
from coupled_embedding.serve.desk import ClientLeft, Desk
from coupled_embedding.serve.uploads import Limits
from coupled_embedding.utils.errors import DatasetError
from coupled_embedding.visualize import person_color

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_LOG = logging.getLogger(__name__)
_PAGE = Path(__file__).with_name("page")
_FILES = {
    "index.html": "text/html",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "drawing.js": "text/javascript",
}
_COLORS = 60  # of people that the page is given; more repeat them
_LEFT = 499  # a status that no client sees
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_IMAGE: dict[str, Any] = {"type": "string", "format": "binary"}
_UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": {"type": "object", "required": ["file"], "properties": {"file": _IMAGE}}},
            "image/*": {"schema": _IMAGE},
        },
    }
}
_ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/json": {"schema": _ERROR}}}
    for status, text in {
        400: "empty, or a malformed form",
        403: "sent by a page of another site",
        408: "the upload took too long",
        413: "too many bytes or pixels",
        415: "not a JPEG, PNG, WebP or BMP image",
        422: "a damaged image, or one that is too long",
        503: "too many requests wait, or the answer took too long; see Retry-After",
    }.items()
}


def create_app(
    predictor: Predictor,
    name: str = "model",
    limits: Limits | None = None,
    hosts: Collection[str] = LOCAL_NAMES,
) -> FastAPI:
    """Return the application, for any ASGI server.

    Args:
        predictor: that answers.
        name: of the model, as the page shows it.
        limits: of requests.
        hosts: host names by which the server may be addressed: those of other sites may lead here (DNS rebinding);
            empty: any.
    """
    desk = Desk(limits or Limits())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        desk.close()

    app = FastAPI(
        title="Coupled embedding: poses of people in images",
        openapi_url="/api/openapi.json",
        docs_url=None,  # its pages load scripts from other sites
        redoc_url=None,
        lifespan=lifespan,
        dependencies=[Depends(_sender_checker(hosts))],
    )
    app.state.desk = desk
    about = describe_model(predictor, name, desk.limits)

    @app.get("/api/model")
    async def model() -> dict[str, Any]:
        """Return the joints, the skeleton, and what an upload may be."""
        return about

    @app.post("/api/poses", openapi_extra=_UPLOAD, responses=_ERRORS)
    async def poses(
        request: Request, min_score: Annotated[float, Query(ge=0, allow_inf_nan=False)] = 0.0
    ) -> dict[str, Any]:
        """Return the people in an image, best first: see docs/predict.md for the fields."""
        return await desk.answer(request, lambda image: predictor(image).filtered(min_score).to_dict())

    def add_maps(kind: str, number: int) -> None:
        @app.post(f"/api/{kind}", name=kind, openapi_extra=_UPLOAD, responses=_ERRORS)
        async def maps(request: Request) -> Response:
            """Return what the network outputs for an image, drawn on it, as JPEG."""
            drawn = await desk.answer(request, lambda image: _jpeg(predictor.maps(image)[number]))
            return Response(drawn, media_type="image/jpeg")

    add_maps("heatmaps", 0)
    add_maps("tags", 1)
    _add_page(app)
    _add_error_handlers(app)
    return app


def describe_model(predictor: Predictor, name: str, limits: Limits) -> dict[str, Any]:
    """Return what programs and the page need to know of a model and of the limits."""
    schema = predictor.schema
    return {
        "name": name,
        "input_size": predictor.input_size,
        "joints": list(schema.joints),
        "skeleton": [list(pair) for pair in schema.skeleton],
        "flip_pairs": [list(pair) for pair in schema.flip_pairs],
        "heatmap_threshold": predictor.pipeline.options.decode.peaks.threshold,
        "person_colors": ["#{2:02x}{1:02x}{0:02x}".format(*person_color(number)) for number in range(_COLORS)],
        "limits": {"bytes": limits.bytes, "pixels": limits.pixels},
    }


def _jpeg(image: Pixels) -> bytes:
    done, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])
    if not done:
        raise RuntimeError(f"OpenCV cannot encode an image of {image.shape}")
    return content.tobytes()


def _sender_checker(hosts: Collection[str]) -> Callable[[Request], None]:
    """Return a check of who sends a request: a browser would let any page use a server on its user's machine."""

    def check(request: Request) -> None:
        host = request.headers.get("host", "")
        if hosts and _host_name(host) not in hosts:
            raise HTTPException(403, f"this server is not {host:.100}; it is addressed as {', '.join(sorted(hosts))}")
        origin = request.headers.get("origin")
        other_site = origin is not None and origin.partition("://")[2].lower() != host.lower()
        if request.method == "POST" and (
            other_site or request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        ):
            raise HTTPException(403, "pages of other sites may not use this server")

    return check


def _host_name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _add_page(app: FastAPI) -> None:
    for name, media_type in _FILES.items():
        path = "/" if name == "index.html" else f"/{name}"
        app.get(path, include_in_schema=False)(_file((_PAGE / name).read_bytes(), media_type))


def _file(content: bytes, media_type: str) -> Callable[[], Response]:
    return lambda: Response(content, media_type=media_type, headers=_HEADERS)


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
