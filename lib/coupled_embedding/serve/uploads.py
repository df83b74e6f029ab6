"""Uploads of strangers: no more bytes, seconds or pixels than allowed, and of four formats alone."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from coupled_embedding.data.images import decode_image
from coupled_embedding.data.io.headers import read_header
from coupled_embedding.data.sources import Pixels
from coupled_embedding.utils.errors import DatasetError

# a format's first bytes; OpenCV reads more formats, by decoders that few programs give hostile files
_FORMATS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"BM")
_CHUNK = 2**16
_DISCARDED_SECONDS = 5.0
_IN_ERRORS = Path("image")  # what errors call the upload
_FORM_BYTES = 2**16  # that a form may have besides its file


@dataclass(frozen=True)
class Limits:
    """What one request may take, and how many may wait.

    Attributes:
        bytes: of an image file.
        pixels: of an image, by its header, before it is decoded.
        queue: requests that are received, wait or are computed at a time; others get status 503.
        receive_seconds: for an upload to arrive.
        answer_seconds: for an answer to be ready after that.
    """

    bytes: int = 20_000_000
    pixels: int = 50_000_000
    queue: int = 32
    receive_seconds: float = 30.0
    answer_seconds: float = 60.0


async def read_upload(request: Request, limits: Limits) -> bytes:
    """Return the image file that a request brings, as its body or as the one file of a form.

    Raises:
        HTTPException: 400: the form is malformed, or has not one file; 408: too slow; 413: too large.
    """
    is_form = request.headers.get("content-type", "").lower().startswith("multipart/")
    try:
        async with asyncio.timeout(limits.receive_seconds):
            content = await _read_body(request, limits.bytes + _FORM_BYTES * is_form)
    except TimeoutError:
        message = f"the upload took longer than {limits.receive_seconds:g} s"
        raise HTTPException(408, message, {"Connection": "close"}) from None
    if is_form and content is not None:
        content = await _file_of_form(request, content)
    if content is None or len(content) > limits.bytes:
        raise HTTPException(413, f"the upload is larger than {limits.bytes / 1e6:.3g} MB")
    return content


async def _read_body(request: Request, most: int) -> bytes | None:
    """Return a request's body; None as soon as it says, or shows, that it is larger."""
    parts, chunks, size = [], request.stream(), int(request.headers.get("content-length", 0))
    if size <= most:
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            if size > most:
                break
            parts.append(chunk)
    if size <= most:
        return b"".join(parts)
    parts.clear()
    await discard(chunks, 4 * most)
    return None


async def discard(chunks: AsyncGenerator[bytes, None], most: int) -> None:
    """Take in the rest of a body, up to a number of bytes: a client that still sends would not read the answer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_DISCARDED_SECONDS):
            async for chunk in chunks:
                most -= len(chunk)
                if most < 0:
                    return


async def _file_of_form(request: Request, body: bytes) -> bytes:
    async def chunks() -> AsyncGenerator[bytes, None]:
        for start in range(0, len(body), _CHUNK):
            yield body[start : start + _CHUNK]
            await asyncio.sleep(0)  # others may go on meanwhile

    try:
        parser = MultiPartParser(request.headers, chunks(), max_files=1, max_fields=8, max_part_size=_CHUNK)
        parser.spool_max_size = len(body)  # no temporary file
        form = await parser.parse()
    except (MultiPartException, LookupError, ValueError) as error:  # also of a charset or a boundary that is none
        raise HTTPException(400, f"malformed form: {getattr(error, 'message', error)!s:.200}") from error
    try:
        files = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
        if not files:
            raise HTTPException(400, "the form has no file, or ends before it; try curl -F file=@image.jpg")
        return await files[0].read()
    finally:
        await form.close()


def decode_upload(content: bytes, max_pixels: int) -> Pixels:
    """Return an uploaded image, (height, width, 3) uint8 BGR, upright; the first frame of an animation.

    Raises:
        HTTPException: 400: it is empty; 413: it has too many pixels; 415: its format is another; 422: it is damaged.
    """
    if not content:
        raise HTTPException(400, "the upload is empty; send an image file as the body, or as a file of a form")
    header = read_header(content)
    if not content.startswith(_FORMATS) or header.size is None:
        raise HTTPException(415, "not a JPEG, PNG, WebP or BMP image")
    width, height = header.size
    if width * height > max_pixels:
        raise HTTPException(
            413, f"the image is {width}×{height} pixels; at most {max_pixels / 1e6:g} megapixels are read"
        )
    try:
        return decode_image(content, _IN_ERRORS)
    except DatasetError as error:
        raise HTTPException(422, str(error)) from error
