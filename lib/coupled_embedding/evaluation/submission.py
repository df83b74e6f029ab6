"""What a benchmark's server takes: results checked, cut to what it counts, and zipped under its name."""

import io
import zipfile
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.evaluation.results import found_people, write_results
from coupled_embedding.utils.atomic import write_whole
from coupled_embedding.utils.errors import DatasetError

MOST_PEOPLE = 20  # a photo: COCO's keypoint evaluation counts those of the highest scores and no more
PERSON = 1  # COCO's category
_FIELDS = {"image_id", "category_id", "keypoints", "score"}
_DIGITS = 2  # of a coordinate, hundredths of a pixel: far below any annotation, and a third of the size


def as_submission(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return results as they are sent: per photo the 20 of the highest scores, keypoints with two decimals.

    Both leave the scores as they are: who is cut would not be counted. The order of photos, and
    of people with equal scores, stays.
    """
    by_photo: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for entry in results:
        by_photo[entry["image_id"]].append(entry)
    return [
        {**entry, "keypoints": [round(float(value), _DIGITS) for value in entry["keypoints"]]}
        for people in by_photo.values()
        for entry in sorted(people, key=lambda entry: -entry["score"])[:MOST_PEOPLE]
    ]


def check_submission(
    results: Sequence[Mapping[str, Any]], schema: KeypointSchema, image_ids: Collection[int], source: str
) -> None:
    """Check what goes to COCO's server, which says little of what it does not like.

    Args:
        results: found people.
        schema: the data set's joints, 3·K numbers a person.
        image_ids: of the split's photos.
        source: names the results in errors.

    Raises:
        DatasetError: a field is missing, unknown or not finite, the category is not 1, the photo
            is not of the split, a photo has more than 20 people, or nobody was found at all.
    """
    known, counts = set(image_ids), dict.fromkeys(image_ids, 0)
    found_people(results, schema, source)
    if not results:
        raise DatasetError(f"{source}: nobody was found in {len(known)} photos; the server takes no empty list")
    for index, entry in enumerate(results):
        where = f"{source}: entry {index}"
        if set(entry) != _FIELDS:
            raise DatasetError(f"{where}: the fields {', '.join(sorted(set(entry) - _FIELDS))} are not the server's")
        if entry["category_id"] != PERSON:
            raise DatasetError(f"{where}: category_id is {entry['category_id']}, a person is {PERSON}")
        if entry["image_id"] not in known:
            raise DatasetError(f"{where}: the split has no photo {entry['image_id']}")
        counts[entry["image_id"]] += 1
        if counts[entry["image_id"]] > MOST_PEOPLE:
            raise DatasetError(f"{where}: photo {entry['image_id']} has more than {MOST_PEOPLE} people")


def write_submission(
    path: Path, results: Sequence[Mapping[str, Any]], schema: KeypointSchema, image_ids: Collection[int]
) -> Path:
    """Write and check results, and zip them beside, named as the server wants both; return the zip's path.

    Args:
        path: of the results file, by `results_file_name`.
        results: found people, all of them.
        schema, image_ids: as of `check_submission`.

    Raises:
        DatasetError: the results are not what the server takes.
        UserError: a file cannot be written.
    """
    sent = as_submission(results)
    # written before it is checked: a complaint must not cost an hour's predictions
    write_results(path, sent)
    check_submission(sent, schema, image_ids, path.name)
    target = path.with_suffix(".zip")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, path.name)
    write_whole(target, packed.getvalue(), "the submission")
    return target
