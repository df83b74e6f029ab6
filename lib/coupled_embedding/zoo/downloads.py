"""Weight files that a config or card needs: where they belong, whether they are whole, how to get them."""

import re
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from yacs.config import CfgNode

from coupled_embedding.engine.run import start_from
from coupled_embedding.networks.file_kinds import NotWeightsError, refuse_other_kinds
from coupled_embedding.networks.pose_network import PoseNetwork, build_network
from coupled_embedding.networks.weights import load_backbone, load_network
from coupled_embedding.prepare import schema_of
from coupled_embedding.utils.errors import CheckpointError, UserError
from coupled_embedding.utils.paths import resolve
from coupled_embedding.zoo.cards import ModelCard, read_fields, read_yaml
from coupled_embedding.zoo.provenance import sha256_of

_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.pth$")
_BACKBONE_CARD = {"title": str, "file": str, "sha256": str, "origin": str, "url": str, "bytes": int}
_CHUNK = 1 << 20
TIMEOUT = 30.0  # seconds without an answer


@dataclass(frozen=True)
class WeightFile:
    """A file of weights.

    Attributes:
        option: what names it: MODEL.PRETRAINED, MODEL.INIT_FROM or the card.
        path: where it belongs.
        sha256: how its SHA-256 begins; empty: not known.
        bytes: its size; 0: not known.
        origin: where it comes from, in words.
        url: address; empty: there is none that is known to be right.
    """

    option: str
    path: Path
    sha256: str = ""
    bytes: int = 0
    origin: str = ""
    url: str = ""

    def check(self) -> None:
        """Raise CheckpointError if the file is missing or has another size or hash."""
        if not self.path.is_file():
            raise CheckpointError(f"{self.path}: no such weight file")
        size = self.path.stat().st_size
        if self.bytes and size != self.bytes:
            raise CheckpointError(f"{self.path}: has {size} bytes, not {self.bytes}: {_what_it_is(self.path)}")
        found = sha256_of(self.path)
        if not found.startswith(self.sha256):
            raise CheckpointError(
                f"{self.path}: its SHA-256 begins with {found[:8]}, not {self.sha256}: {_what_it_is(self.path)}"
            )

    def how_to_get(self) -> str:
        """Return what to do where the file is missing."""
        steps = [f"belongs at {self.path}"]
        if self.origin:
            steps.append(f"from {self.origin}")
        if self.url:
            steps.append(f"address {self.url} (--download fetches it)")
        return "; ".join(steps)


def _what_it_is(path: Path) -> str:
    """Return in words what a file that is not the wanted one may be."""
    try:
        refuse_other_kinds(path)
    except NotWeightsError as error:
        return f"it is {error}"
    return "cut off, damaged, or another file"


def hash_in_name(name: str) -> str:
    """Return the beginning of the SHA-256 that a name such as ``hrnet_w32-36af842e.pth`` carries, or nothing."""
    match = _HASH_IN_NAME.search(name)
    return match[1] if match else ""


def start_files(cfg: CfgNode) -> list[WeightFile]:
    """Return the files that a training by a config starts from."""
    files = []
    if cfg.MODEL.PRETRAINED:
        files.append(backbone_file(resolve(cfg.MODEL.PRETRAINED)))
    if cfg.MODEL.INIT_FROM:
        origin = "a training of the network that this one starts from (its best.pth)"
        path = resolve(cfg.MODEL.INIT_FROM)
        files.append(WeightFile("MODEL.INIT_FROM", path, hash_in_name(path.name), origin=origin))
    return files


def backbone_file(path: Path) -> WeightFile:
    """Return an ImageNet backbone, with what the card of its name beside it says; ConfigError if that is wrong."""
    card = path.with_suffix(".yaml")
    known = {}
    if card.is_file():
        known = read_fields(read_yaml(card), _BACKBONE_CARD, str(card), ("url", "bytes"))
    return WeightFile(
        "MODEL.PRETRAINED",
        path,
        known.get("sha256", hash_in_name(path.name)),
        known.get("bytes", 0),
        known.get("origin", ""),
        known.get("url", ""),
    )


def trained_file(card: ModelCard, path: Path) -> WeightFile:
    """Return a card's own weights, which lie at a path."""
    origin = "your own training; none has been released by this project yet"
    if path.name == card.weights.file:
        return WeightFile("models/", path, card.weights.sha256, card.weights.bytes, origin)
    return WeightFile("models/", path, origin=origin)


def check_fit(file: WeightFile, cfg: CfgNode) -> str:
    """Load a file into the config's network, every key accounted for; return what was found.

    Raises:
        CheckpointError: it is damaged or does not fit; the text lists the keys.
    """
    notes: list[str] = []
    return "; ".join([_fit(file, cfg, notes), *notes])


def _fit(file: WeightFile, cfg: CfgNode, notes: list[str]) -> str:
    schema = schema_of(cfg)
    network: PoseNetwork = build_network(cfg, schema.num_joints)
    if file.option == "MODEL.PRETRAINED":
        unused = load_backbone(network, file.path, notes)
        used = len(network.backbone.state_dict())
        return f"{used} tensors fit, {len(unused)} of classification and lower branches are not used"
    if file.option == "MODEL.INIT_FROM":
        fresh = start_from(network, cfg, schema, file.path, notes)
        return f"its tensors fit; fresh head channels: {', '.join(fresh) or 'none'}"
    load_network(network, file.path, schema, notes)
    return f"all {len(network.state_dict())} tensors fit"


def download(file: WeightFile, url: str = "") -> None:
    """Fetch a file: beside its place first, then, if size and hash are right, to it. Never overwrites.

    Args:
        file: what to fetch; its folder is made.
        url: address; empty: the file's own.

    Raises:
        UserError: the place is taken, no address is known, it cannot be reached, or what came is another file.
    """
    url = url or file.url
    if file.path.exists():
        raise UserError(f"{file.path}: is there already; delete it first to fetch it anew")
    if not url:
        raise UserError(f"{file.path.name}: no address is known for it; {file.how_to_get()}")
    file.path.parent.mkdir(parents=True, exist_ok=True)
    beside = file.path.with_name(file.path.name + ".part")
    try:
        _fetch(url, beside)
        WeightFile(file.option, beside, file.sha256, file.bytes).check()
        # unlike a rename, a link fails where somebody else was faster
        file.path.hardlink_to(beside)
    except (OSError, ValueError, HTTPException) as error:  # URLError is an OSError
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"{url}: cannot be fetched ({reason}). Without a network here: fetch it elsewhere and copy it; the file "
            + file.how_to_get()
        ) from error
    except CheckpointError as error:
        raise CheckpointError(f"{url}: not the wanted file: {error}; nothing was kept") from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def _fetch(url: str, path: Path) -> None:
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, path.open("wb") as out:
        while block := answer.read(_CHUNK):
            out.write(block)
        promised = answer.headers.get("Content-Length")
        if promised and out.tell() != int(promised):
            raise OSError(f"cut off after {out.tell()} of {promised} bytes")
