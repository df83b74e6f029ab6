"""Entries of annotation files, sound but for the changes asked for, and their two readings."""

import pytest

from coupled_embedding.data.io.data_errors import BadInput, BadInputError

HUGE = 10**400


def image(number=1, **changes):
    return {"id": number, "file_name": f"{number}.jpg", "width": 20, "height": 10} | changes


def person(number=7, image_id=1, **changes):
    """Return an annotation; None removes a field."""
    fields = {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "num_keypoints": 2,
        "keypoints": [1, 2, 2, 3.5, 4, 1, 0, 0, 0],
        "bbox": [1, 2, 3, 4.5],
    } | changes
    return {key: value for key, value in fields.items() if value is not None}


def both(load, images, annotations):
    """Return the strict reading's problem, and the tolerant one's records and problems."""
    with pytest.raises(BadInputError) as raised:
        load(images, annotations)
    bad_input = BadInput(tolerant=True)
    records = load(images, annotations, bad_input)
    assert raised.value.problem.file == bad_input.problems[0].file
    return raised.value.problem, records, bad_input.problems
