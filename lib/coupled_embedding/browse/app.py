"""The web application: the list of images, one image with its people, and what a network outputs for it."""

from collections.abc import Callable
from collections.abc import Collection as Names
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response

from coupled_embedding.analysis.error_analysis.keypoint_errors import KIND_COLORS
from coupled_embedding.analysis.plot_style import PURPLE
from coupled_embedding.browse.collection import Collection
from coupled_embedding.browse.predictions import NetworkPredictions
from coupled_embedding.browse.selection import ORDERS, PEOPLE_ERRORS, Selection, totals
from coupled_embedding.data.images import read_image_for_warp
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.sources import Pixels
from coupled_embedding.serve.desk import Desk
from coupled_embedding.serve.uploads import Limits
from coupled_embedding.serve.web import LOCAL_NAMES, PAGE, add_files, describe_schema, jpeg_response, new_app

LONGEST = 1600  # pixels of an image's longer side, as the page gets it; none is enlarged
MOST_ROWS = 200
_ANSWER_SECONDS = 600.0  # a large network on a CPU takes its time
_OWN_PAGE = Path(__file__).with_name("page")


def create_app(
    collection: Collection, name: str, network: NetworkPredictions | None = None, hosts: Names[str] = LOCAL_NAMES
) -> FastAPI:
    """Return the application, for any ASGI server; while it runs, a thread predicts image after image.

    Args:
        collection: the images.
        name: what is shown, for the page's title.
        network: whose heatmaps and tags are drawn; None: there are none.
        hosts: host names by which the server may be addressed; empty: any.
    """
    limits = Limits(answer_seconds=_ANSWER_SECONDS)
    reader, runner = Desk(limits), Desk(limits)  # images need not wait for the network

    def predict_on() -> None:
        # what was asked for meanwhile comes before the next batch
        if collection.predict_next():
            with suppress(RuntimeError):  # the server ends
                runner.submit(predict_on)

    def end() -> None:
        reader.close()
        runner.close()

    app = new_app("A data set, image by image", hosts, start=lambda: runner.submit(predict_on), end=end, private=True)
    about = _describe(collection, name, network is not None)

    @app.get("/api/dataset")
    def dataset() -> dict[str, Any]:
        """Return the joints, the kinds of errors and what there is to show."""
        return about

    @app.get("/api/progress")
    def progress() -> dict[str, Any]:
        """Return how many images are predicted, and the sums of their errors."""
        return totals(collection.figures.values())

    @app.get("/api/images")
    def images(
        selection: Annotated[Selection, Depends(_selection)],
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 50,
        around: int | None = None,
    ) -> dict[str, Any]:
        """Return a part of the list; ``around``: the part with this image, if it is listed."""
        chosen = selection.of(collection.figures.values())
        place = next((place for place, image in enumerate(chosen) if image.image_id == around), None)
        start = offset if place is None else place - place % limit
        return {"matching": len(chosen), "offset": start, "rows": chosen[start : start + limit]}

    _add_image_routes(app, collection, network, reader, runner)
    add_files(app, PAGE, "page.css", "drawing.js", "requests.js")
    add_files(app, _OWN_PAGE, "index.html", "browse.css", "browse.js", "list.js", "marks.js")
    return app


def _add_image_routes(
    app: FastAPI, collection: Collection, network: NetworkPredictions | None, reader: Desk, runner: Desk
) -> None:
    """Add what the page asks of one image: people, pixels, predictions, heatmaps and tags."""
    Record = Annotated[ImageRecord, Depends(_record_finder(collection))]

    @app.get("/api/images/{image_id}")
    def image(record: Record) -> dict[str, Any]:
        """Return an image's annotated people."""
        return collection.describe(record.image_id)

    @app.get("/api/images/{image_id}/pixels")
    async def pixels(request: Request, record: Record) -> Response:
        """Return the image as JPEG, at most 1600 pixels long."""
        return await reader.run(request, lambda: jpeg_response(_read(record)))

    @app.get("/api/images/{image_id}/predictions")
    async def predictions(request: Request, record: Record) -> list[dict[str, Any]]:
        """Return the people that were predicted, and what is wrong with them."""
        return await runner.run(request, lambda: collection.describe_predictions(record.image_id))

    @app.get("/api/images/{image_id}/{kind}")
    async def fields(request: Request, record: Record, kind: str, joint: str = "") -> Response:
        """Return heatmaps or tags, of all joints or of one, drawn on the image, as JPEG."""
        if network is None or kind not in ("heatmaps", "tags"):
            raise HTTPException(404, f"no {kind:.40} here" if network else "heatmaps and tags need --weights")
        number = _joint_number(collection, joint)

        def draw() -> Response:
            found = network.fields(record.image_id)
            drawn = found.draw_heatmaps if kind == "heatmaps" else found.draw_tags
            return jpeg_response(drawn(number, shown_size(record)))

        return await runner.run(request, draw)


def _describe(collection: Collection, name: str, has_fields: bool) -> dict[str, Any]:
    colors = KIND_COLORS | dict.fromkeys(PEOPLE_ERRORS, PURPLE)
    return {
        "name": name,
        **describe_schema(collection.schema),
        "images": len(collection.figures),
        "annotated": collection.truth.annotated,
        "predictions": collection.predictions is not None,
        "fields": has_fields,
        "errors": colors,
    }


def _selection(
    order: str = "worst",
    min_crowd: Annotated[float | None, Query(allow_inf_nan=False)] = None,
    max_crowd: Annotated[float | None, Query(allow_inf_nan=False)] = None,
    min_people: Annotated[float | None, Query(allow_inf_nan=False)] = None,
    max_people: Annotated[float | None, Query(allow_inf_nan=False)] = None,
    min_oks: Annotated[float | None, Query(allow_inf_nan=False)] = None,
    max_oks: Annotated[float | None, Query(allow_inf_nan=False)] = None,
) -> Selection:
    if order not in ORDERS:
        raise HTTPException(422, f"order: expected one of {', '.join(ORDERS)}, got {order:.40}")
    return Selection(order, min_crowd, max_crowd, min_people, max_people, min_oks, max_oks)


def _record_finder(collection: Collection) -> Callable[[int], ImageRecord]:
    """Return a function that finds an image by its id; no other file can be asked for."""

    def find(image_id: int) -> ImageRecord:
        if image_id not in collection.records:
            raise HTTPException(404, f"no image has the id {image_id}")
        return collection.records[image_id]

    return find


def _joint_number(collection: Collection, joint: str) -> int | None:
    if joint and joint not in collection.schema.joints:
        raise HTTPException(422, f"joint: expected one of {', '.join(collection.schema.joints)}, got {joint:.40}")
    return collection.schema.joints.index(joint) if joint else None


def shown_size(record: ImageRecord) -> tuple[int, int]:
    """Return the (width, height) at which an image is sent."""
    factor = min(1.0, LONGEST / max(record.width, record.height))
    return max(round(record.width * factor), 1), max(round(record.height * factor), 1)


def _read(record: ImageRecord) -> Pixels:
    size = shown_size(record)
    pixels = read_image_for_warp(record, record.width / size[0]).pixels
    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
