"""Weight files that a config or card needs: where they belong, whether they are intact, how to get them."""

import re
import shutil
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from coupled_embedding.builders import RunInfo
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.networks.file_kinds import NotWeightsError, refuse_other_kinds
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.networks.weights import load_backbone, load_network, load_other_joints
from coupled_embedding.utils.errors import CheckpointError, UserError
from coupled_embedding.utils.paths import resolve
from coupled_embedding.zoo.cards import ModelCard, Weights, read_card
from coupled_embedding.zoo.provenance import sha256_of

_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.pth$")
TIMEOUT = 30.0  # seconds without an answer


@dataclass(frozen=True)
class WeightFile:
    """A file of weights that is needed; what is unknown is empty or 0."""

    option: str  # what names the file: MODEL.PRETRAINED, MODEL.INIT_FROM, or "models/" for a card's own
    path: Path  # where the file belongs
    sha256: str = ""  # its first digits
    bytes: int = 0
    origin: str = ""  # where the file comes from, in words
    url: str = ""

    def check(self) -> None:
        """Raise CheckpointError if the file is missing or has another size or hash."""
        if not self.path.is_file():
            raise CheckpointError(f"{self.path}: no such weight file")
        size = self.path.stat().st_size
        if self.bytes and size != self.bytes:
            raise CheckpointError(f"{self.path}: has {size} bytes, not {self.bytes}: {self._guess()}")
        digits = sha256_of(self.path)
        if not digits.startswith(self.sha256):
            found = f"its SHA-256 begins with {digits[:8]}, not {self.sha256}"
            raise CheckpointError(f"{self.path}: {found}: {self._guess()}")

    def _guess(self) -> str:
        """Say what a file that is not the wanted one may be."""
        try:
            refuse_other_kinds(self.path)
        except NotWeightsError as error:
            return f"it is {error}"
        return "cut off, damaged, or another file"

    def how_to_get(self) -> str:
        """Say what to do where the file is missing."""
        origin = f"; from {self.origin}" if self.origin else ""
        address = f"; address {self.url} (--download fetches it)" if self.url else ""
        return f"belongs at {self.path}{origin}{address}"


def hash_in_name(name: str) -> str:
    """Return the first digits of the SHA-256 in a name such as ``hrnet_w32-36af842e.pth``; empty: there are none."""
    match = _HASH_IN_NAME.search(name)
    return match[1] if match else ""


def start_files(info: RunInfo) -> list[WeightFile]:
    """Return the files that a training starts from."""
    files = [backbone_file(resolve(info.pretrained))] if info.pretrained else []
    if info.init_from:
        path, origin = resolve(info.init_from), "a training of the network that this one starts from (its best.pth)"
        files.append(_weight_file("MODEL.INIT_FROM", path, Weights(path.name), origin))
    return files


def backbone_file(path: Path) -> WeightFile:
    """Return an ImageNet backbone, with what the card next to it says; ConfigError if that card is wrong."""
    card = path.with_suffix(".yaml")
    known = read_card(Weights, card) if card.is_file() else Weights(path.name)
    return _weight_file("MODEL.PRETRAINED", path, known)


def trained_file(card: ModelCard, path: Path) -> WeightFile:
    """Return a card's own weights, whose place is ``path``."""
    known = card.weights if path.name == card.weights.file else Weights(path.name)
    return _weight_file("models/", path, known, "your own training; none has been released by this project yet")


def _weight_file(option: str, path: Path, known: Weights, origin: str = "") -> WeightFile:
    digits = known.sha256 or hash_in_name(path.name)
    return WeightFile(option, path, digits, known.bytes, known.origin or origin, known.url)


def check_fit(file: WeightFile, network: PoseNetwork, schema: KeypointSchema, init_schema: str = "") -> str:
    """Load a file into the network that needs it; return what was found, or raise CheckpointError with misfitting keys.

    ``schema`` has the network's joints, the schema file ``init_schema`` those of a MODEL.INIT_FROM that does not say.
    """
    notes: list[str] = []
    if file.option == "MODEL.PRETRAINED":
        unused, used = load_backbone(network, file.path, notes), network.backbone.state_dict()
        found = f"{len(used)} tensors fit, {len(unused)} of classification and lower branches are not used"
    elif file.option == "MODEL.INIT_FROM":
        reinitialized = load_other_joints(network, schema, file.path, init_schema, notes)
        found = f"its tensors fit; reinitialized head channels: {', '.join(reinitialized) or 'none'}"
    else:
        load_network(network, file.path, schema, notes)
        found = f"all {len(network.state_dict())} tensors fit"
    return "; ".join([found, *notes])


def download(file: WeightFile, url: str = "") -> None:
    """Fetch a file, from ``url`` instead of its own address if given; it gets its name if size and hash are right.

    Raises:
        UserError: the file exists, or cannot be fetched; the text says what to do without a network.
        CheckpointError: what came is another file.
    """
    url = url or file.url
    if file.path.exists():
        raise UserError(f"{file.path}: exists; delete it first to fetch it again")
    if not url:
        raise UserError(f"{file.path.name}: no address is known for it; {file.how_to_get()}")
    file.path.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.path.with_name(file.path.name + ".part")
    try:
        _fetch(url, temporary)
        WeightFile(file.option, temporary, file.sha256, file.bytes).check()
        # unlike a rename, a link fails where another process was faster
        file.path.hardlink_to(temporary)
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
            temporary.unlink(missing_ok=True)


def _fetch(url: str, path: Path) -> None:
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, path.open("wb") as out:
        shutil.copyfileobj(answer, out)
        promised = answer.headers.get("Content-Length")
        if promised and out.tell() != int(promised):
            raise OSError(f"cut off after {out.tell()} of {promised} bytes")
