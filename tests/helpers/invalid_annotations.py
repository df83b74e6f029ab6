"""Entries of annotation files, valid but for the given changes, and both ways of reading them."""

import pytest

from coupled_embedding.data.io.data_errors import DataError, DataErrorPolicy

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
    """Return the issue that is raised, and the records and issues where invalid data is skipped."""
    with pytest.raises(DataError) as raised:
        load(images, annotations)
    policy = DataErrorPolicy(skip=True)
    records = load(images, annotations, policy)
    assert raised.value.issue.file == policy.issues[0].file
    return raised.value.issue, records, policy.issues
