"""COCO results files: poses as JSON, as benchmarks and their servers read them."""

import io
import json
import re
import zipfile
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.outputs import Pose
from coupled_embedding.data.people import whole_number
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.utils.atomic import atomic_write
from coupled_embedding.utils.errors import DatasetError

_IDS = ("image_id", "category_id")


def poses_to_results(
    poses: Mapping[int, Sequence[Pose]],
    category_id: int = 1,
    max_detections: int = 0,
    source_name: str = "annotation_id",
) -> list[dict[str, Any]]:
    """Turn poses into entries of a COCO results file.

    Args:
        poses: image id -> poses, keypoints (K, 3) x, y in image pixels, score.
        category_id: the annotation file's id of a person.
        max_detections: keep this many poses of the highest scores per image; 0: all.
        source_name: of the entry's field for `Pose.source`; poses without one have no such field.

    Returns:
        Entries with ``image_id``, ``category_id``, ``keypoints`` (3·K plain floats) and
        ``score``, image by image in the given order.

    Raises:
        ValueError: a coordinate or score is not finite (no JSON file can hold it).
    """
    results = []
    for image_id, detected in poses.items():
        kept = sorted(detected, key=lambda pose: -pose.score)[:max_detections] if max_detections else detected
        results += [_entry(int(image_id), category_id, pose, source_name) for pose in kept]
    return results


def _entry(image_id: int, category_id: int, pose: Pose, source_name: str) -> dict[str, Any]:
    keypoints = np.asarray(pose.keypoints, np.float64)
    if not np.isfinite(keypoints).all() or not np.isfinite(pose.score):
        raise ValueError(f"image {image_id}: a pose has a coordinate or score that is not finite")
    entry: dict[str, Any] = {"image_id": image_id, "category_id": int(category_id)}
    entry |= {"keypoints": keypoints.reshape(-1).tolist(), "score": float(pose.score)}
    return entry if pose.source is None else entry | {source_name: int(pose.source)}


def write_results(path: str | Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Write a results file, whole or not at all; an interrupted run leaves an older file as it was.

    Raises:
        UserError: the file cannot be written.
        ValueError: a number is not finite, or an entry is not JSON.
    """
    atomic_write(Path(path), json.dumps(list(results), allow_nan=False), "this results file")


def read_results(path: str | Path, schema: KeypointSchema) -> list[dict[str, Any]]:
    """Read a results file, of this or another program.

    Raises:
        DatasetError: the file cannot be read, or an entry lacks a field, has a wrong one or
            another number of joints than ``schema``.
    """
    results = read_entries(path, "results file")
    checked_detections(results, schema, str(path))
    return results


def read_entries(path: str | Path, kind: str) -> list[Any]:
    """Read a JSON list, also the only one in a zip file; DatasetError, in which it is a ``kind``, if it is none."""
    try:
        content = Path(path).read_bytes()
        results = json.loads(_unpacked(content, path))
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: no such {kind}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: cannot read this {kind}: {error}") from error
    if not isinstance(results, list):
        raise DatasetError(f"{path}: expected a list of poses (COCO results), got a {type(results).__name__}")
    return results


def _unpacked(content: bytes, path: str | Path) -> bytes:
    """Return the one JSON file in a zip file, such as a submission to COCO's server; else the content itself."""
    if not content.startswith(b"PK\x03\x04"):
        return content
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [name for name in archive.namelist() if name.endswith(".json")]
            if len(names) != 1:
                raise DatasetError(f"{path}: a zip file with {len(names)} JSON files; give one results file")
            return archive.read(names[0])
    except zipfile.BadZipFile as error:
        raise DatasetError(f"{path}: cannot read this results file: {error}") from error


@dataclass(frozen=True)
class Detections:
    """The entries of a results file, checked, as columns of N rows.

    Attributes:
        image_ids, category_ids: of each pose.
        keypoints: (N, 3·K) x, y in image pixels, score.
        scores: (N,).
        annotation_ids: as the file has them, of the people in whose boxes the poses were found; None: not known.
    """

    image_ids: list[int]
    category_ids: list[int]
    keypoints: NDArray[np.float64]
    scores: NDArray[np.float64]
    annotation_ids: list[Any]

    def boxes(self) -> NDArray[np.float64]:
        """Return (N, 4): x, y, width, height of the smallest box around each pose's joints."""
        x, y = self.keypoints[:, 0::3], self.keypoints[:, 1::3]
        left, top = x.min(1), y.min(1)
        return np.stack((left, top, x.max(1) - left, y.max(1) - top), 1)

    def areas(self) -> NDArray[np.float64]:
        """Return (N,): the boxes' areas, by which the benchmarks sort out people of another size."""
        return self.boxes()[:, 2:].prod(1)

    def of_images(self, image_ids: Container[int]) -> "Detections":
        """Return the detections of some images, in the same order."""
        rows = [row for row, image_id in enumerate(self.image_ids) if image_id in image_ids]
        columns = (self.image_ids, self.category_ids, self.annotation_ids)
        images, categories, annotations = ([column[row] for row in rows] for column in columns)
        return Detections(images, categories, self.keypoints[rows], self.scores[rows], annotations)


def checked_detections(results: Sequence[Any], schema: KeypointSchema, source: str) -> Detections:
    """Check results; DatasetError names ``source``, entry and field of one that is not a pose."""
    for index, entry in enumerate(results):
        where = f"{source}: entry {index}"
        # plain types first: asking abstract ones of each entry takes longer than all else here
        if not isinstance(entry, dict | Mapping):
            raise DatasetError(f"{where}: expected a person with image_id, keypoints and score, got {entry!r:.80}")
        for key in (*_IDS, "keypoints", "score"):
            if key not in entry:
                raise DatasetError(f"{where}: '{key}' is missing")
        for key in _IDS:
            if not _is_id(entry[key]):
                raise DatasetError(f"{where}: {key}: expected a whole number of up to 64 bits, got {entry[key]!r:.80}")
    images, categories = ([int(entry[key]) for entry in results] for key in _IDS)
    joints, size = [entry["keypoints"] for entry in results], 3 * schema.num_joints
    keypoints = checked_table(joints, size, lambda row: f"{source}: entry {row}: keypoints")
    scores = checked_column([entry["score"] for entry in results], lambda row: f"{source}: entry {row}: score")
    return Detections(images, categories, keypoints, scores, [entry.get("annotation_id") for entry in results])


def _is_id(value: Any) -> bool:
    """Whether a value is a whole number, of NumPy too; evaluators sort longer ones as floats, which are not exact."""
    if type(value) is int:
        return abs(value) < 2**63
    return (
        whole_number(int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value) is not None
    )


def checked_column(values: Sequence[Any], where: Callable[[int], str]) -> NDArray[np.float64]:
    """Return finite numbers as an array (N,); DatasetError, starting with ``where(row)``, for one that is none."""
    return checked_table([[value] for value in values], 1, where)[:, 0]


def checked_table(rows: Sequence[Any], count: int, where: Callable[[int], str]) -> NDArray[np.float64]:
    """Return lists of ``count`` finite numbers as an array (N, count).

    Raises:
        DatasetError: a list is none of these; the text starts with ``where(row)``.
    """
    try:
        table = np.asarray(rows)
    except ValueError:  # lists of different lengths
        table = np.zeros(0)
    if _is_finite(table, (len(rows), count)):
        return table.astype(np.float64, copy=False)
    # row by row to name the wrong one
    checked = [checked_numbers(values, count, where(row)) for row, values in enumerate(rows)]
    return np.array(checked, np.float64).reshape(-1, count)


def checked_numbers(values: Any, count: int, where: str) -> NDArray[np.float64]:
    """Return a list of ``count`` finite numbers as an array; DatasetError, starting with ``where``, if it is none."""
    length = len(values) if isinstance(values, list | tuple | np.ndarray) else None
    if length != count:
        raise DatasetError(f"{where}: expected {count} numbers, got {'no list' if length is None else length}")
    try:
        numbers = np.asarray(values)
    except ValueError as error:  # lists of different lengths inside
        raise DatasetError(f"{where}: expected {count} numbers: {error}") from error
    if not _is_finite(numbers, (count,)):
        raise DatasetError(f"{where}: expected {count} finite numbers, got {values!s:.80}")
    return numbers.astype(np.float64)


def _is_finite(numbers: NDArray[Any], shape: tuple[int, ...]) -> bool:
    # texts and nulls would only fail, or worse, pass, deep inside the evaluator
    return numbers.dtype.kind in "iuf" and numbers.shape == shape and bool(np.isfinite(numbers).all())


def results_file_name(schema: KeypointSchema, split: str, model_name: str) -> str:
    """Return the name that the benchmark's server, or a reader, expects of a results file.

    COCO's server takes a zip of ``person_keypoints_test-dev2017_{algorithm}_results.json``;
    COCO's other splits are named alike, other data sets' files ``keypoints_{data set}_{split}_…``.
    Characters that a file name cannot hold everywhere become ``-``.
    """
    parts = ["person_keypoints"] if schema.name == "coco" else ["keypoints", schema.name]
    safe = (re.sub(r"[^A-Za-z0-9._-]+", "-", part).strip("-.") or "unnamed" for part in (*parts, split, model_name))
    return "_".join((*safe, "results")) + ".json"
