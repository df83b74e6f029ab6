"""Results for COCO's server: checked, cut to the poses that it counts, and zipped under the name that it expects."""

import io
import zipfile
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from coupled_embedding.data.evaluators import EVALUATORS
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.evaluation.results import checked_detections, write_results
from coupled_embedding.utils.atomic import atomic_write
from coupled_embedding.utils.errors import DatasetError

PERSON = 1  # COCO's category
_FIELDS = {"image_id", "category_id", "keypoints", "score"}
_SOURCES = {"annotation_id", "detection"}  # where a crop's pose was found: no matter of the server's
_DIGITS = 2  # of a coordinate, hundredths of a pixel: far below any annotation, and a third of the size


def as_submission(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return results as they are sent: per image the 20 poses of the highest scores, keypoints with two decimals.

    Neither changes the benchmark's scores: poses beyond the 20 are not counted. The order of images, and
    of poses with equal scores, stays.
    """
    by_image: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for entry in results:
        by_image[entry["image_id"]].append(entry)
    return [
        {
            **{name: value for name, value in entry.items() if name not in _SOURCES},
            "keypoints": [round(float(value), _DIGITS) for value in entry["keypoints"]],
        }
        for detected in by_image.values()
        for entry in sorted(detected, key=lambda entry: -entry["score"])[: EVALUATORS["coco"].max_detections]
    ]


def check_submission(
    results: Sequence[Mapping[str, Any]], schema: KeypointSchema, image_ids: Collection[int], source: str
) -> None:
    """Check results for COCO's server, whose own errors explain little.

    Args:
        results: poses.
        schema: the data set's joints, 3·K numbers per pose.
        image_ids: of the split's images.
        source: names the results in errors.

    Raises:
        DatasetError: a field is missing, unknown or not finite, the category is not 1, the image
            is not of the split, an image has more than 20 poses, or there is no pose at all.
    """
    checked_detections(results, schema, source)
    counts, most = dict.fromkeys(image_ids, 0), EVALUATORS["coco"].max_detections
    if not results:
        raise DatasetError(f"{source}: no detections in {len(counts)} images; the server takes no empty list")
    for index, entry in enumerate(results):
        where = f"{source}: entry {index}"
        if set(entry) != _FIELDS:
            raise DatasetError(f"{where}: the fields {', '.join(sorted(set(entry) - _FIELDS))} are not the server's")
        if entry["category_id"] != PERSON:
            raise DatasetError(f"{where}: category_id is {entry['category_id']}, a person is {PERSON}")
        if entry["image_id"] not in counts:
            raise DatasetError(f"{where}: the split has no image {entry['image_id']}")
        counts[entry["image_id"]] += 1
        if counts[entry["image_id"]] > most:
            raise DatasetError(f"{where}: image {entry['image_id']} has more than {most} poses")


def write_submission(
    path: Path, results: Sequence[Mapping[str, Any]], schema: KeypointSchema, image_ids: Collection[int]
) -> Path:
    """Write and check results, and zip them next to it, both named as the server expects; return the zip's path.

    Args:
        path: of the results file, by `results_file_name`.
        results: all poses.
        schema, image_ids: as of `check_submission`.

    Raises:
        DatasetError: the results are not what the server takes.
        UserError: a file cannot be written.
    """
    sent = as_submission(results)
    # written before they are checked: an error must not cost an hour's predictions
    write_results(path, sent)
    check_submission(sent, schema, image_ids, path.name)
    packed, target = io.BytesIO(), path.with_suffix(".zip")
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, path.name)
    atomic_write(target, packed.getvalue(), "the submission")
    return target
