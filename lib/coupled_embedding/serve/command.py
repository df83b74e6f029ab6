"""Serve a page and a JSON endpoint that find the people of images.

coupled-embedding serve --model outputs/synthetic_ce_small/best.pth
curl --data-binary @image.jpg http://127.0.0.1:8765/api/poses

(python tools/serve.py is the same.) Images are kept in memory alone, and only until they are answered. Ctrl-C ends it.
"""

import argparse
import importlib
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from coupled_embedding.networks.model_file import DEFAULT_MODEL
from coupled_embedding.predictor import Predictor
from coupled_embedding.utils.cli import add_predictor_options, command
from coupled_embedding.utils.errors import UserError

if TYPE_CHECKING:
    from fastapi import FastAPI

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_CONNECTIONS = 512


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_predictor_options(parser, DEFAULT_MODEL)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: this machine alone)")
    parser.add_argument("--port", type=int, default=8765, help="0: any free one (default: 8765)")
    parser.add_argument(
        "--allow-host", nargs="+", default=[], metavar="NAME",
        help="other names by which requests may address the server, such as a reverse proxy's (default: this "
        "machine's; with another --host any)",
    )  # fmt: skip
    parser.add_argument("--max-megabytes", type=float, default=20, help="of an upload (default: 20)")
    parser.add_argument("--max-megapixels", type=float, default=50, help="of an image (default: 50)")
    parser.add_argument("--queue", type=int, default=32, help="requests at a time; others get status 503 (default: 32)")
    parser.add_argument("--timeout", type=float, default=60, help="seconds for an answer (default: 60)")
    return parser.parse_args()


@command
def main() -> None:
    """Load the model, listen, and answer until Ctrl-C."""
    args = parse()
    check_packages("serve")
    from coupled_embedding.serve.app import create_app
    from coupled_embedding.serve.uploads import Limits
    from coupled_embedding.serve.web import LOCAL_NAMES

    for option in ("max_megabytes", "max_megapixels", "queue", "timeout"):
        if not getattr(args, option) > 0:
            raise UserError(f"--{option.replace('_', '-')} {getattr(args, option)}: expected a number above 0")
    limits = Limits(
        round(args.max_megabytes * 1e6), round(args.max_megapixels * 1e6), args.queue, answer_seconds=args.timeout
    )
    predictor = Predictor.from_pretrained(
        args.model, tuple(args.options), args.device, flip=args.flip, scales=args.scales, size=args.size
    )
    predictor(np.zeros((64, 64, 3), np.uint8))  # what compiles at the first call does it now
    is_local = args.host in _LOOPBACK
    names = {*LOCAL_NAMES, *args.allow_host} if is_local or args.allow_host else ()
    app = create_app(predictor, Path(args.model).name, limits, names)
    with listen(args.host, args.port) as listener:
        if not is_local:
            print(
                f"warning: --host {args.host}: whoever reaches this machine can use the page; there are no accounts, "
                "and nothing is encrypted",
                file=sys.stderr,
            )
        print(f"serving {args.model} at {url_of(listener)} (Ctrl-C ends it)", flush=True)
        run_server(app, listener)


def check_packages(verb: str) -> None:
    """Raise UserError if a package of the extra ``serve``, which a verb needs, is not installed."""
    for package in ("fastapi", "uvicorn", "python_multipart"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise UserError(
                f"{verb} needs the package {error.name}: pip install 'coupled-embedding[serve]', or pip install "
                "fastapi uvicorn python-multipart"
            ) from error


def run_server(app: "FastAPI", listener: socket.socket) -> None:
    """Answer requests at a socket until Ctrl-C."""
    import uvicorn

    config = uvicorn.Config(
        app, http="h11", ws="none", log_level="warning", server_header=False, limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=5,
    )  # fmt: skip
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; UserError if the address cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--host {host} --port {port}: cannot listen there ({reason}); choose another port") from error


def url_of(listener: socket.socket) -> str:
    """Return the address of a listening socket for a browser."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
