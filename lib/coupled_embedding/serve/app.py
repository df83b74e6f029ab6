"""The web application: a page, ``/api/poses`` and ``/api/model`` for programs, and what the page shows beside."""

from collections.abc import Callable, Collection
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response

from coupled_embedding.decode.fields import NetworkFields, Pixels
from coupled_embedding.predictor import Predictor
from coupled_embedding.serve.desk import Desk
from coupled_embedding.serve.uploads import Limits
from coupled_embedding.serve.web import LOCAL_NAMES, PAGE, add_files, describe_schema, jpeg_response, new_app

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
    app = new_app("Coupled embedding: poses of people in images", hosts, end=desk.close)
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

    def add_maps(kind: str, draw: Callable[[NetworkFields], Pixels]) -> None:
        @app.post(f"/api/{kind}", name=kind, openapi_extra=_UPLOAD, responses=_ERRORS)
        async def maps(request: Request) -> Response:
            """Return what the network outputs for an image, drawn on it, as JPEG."""
            return await desk.answer(request, lambda image: jpeg_response(draw(predictor.fields(image))))

    add_maps("heatmaps", NetworkFields.draw_heatmaps)
    add_maps("tags", NetworkFields.draw_tags)
    add_files(app, PAGE, "index.html", "page.css", "page.js", "drawing.js", "requests.js")
    return app


def describe_model(predictor: Predictor, name: str, limits: Limits) -> dict[str, Any]:
    """Return what programs and the page need to know of a model and of the limits."""
    return {
        "name": name,
        "input_size": predictor.input_size,
        **describe_schema(predictor.schema),
        "heatmap_threshold": predictor.pipeline.options.decode.joint_threshold,
        "limits": {"bytes": limits.bytes, "pixels": limits.pixels},
    }
