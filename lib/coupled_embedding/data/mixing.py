"""Several data sets in one training: their people in the joints of one schema, by the joints' names."""

from dataclasses import replace

import numpy as np

from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.utils.errors import DatasetError


def map_records(records: list[ImageRecord], source: KeypointSchema, target: KeypointSchema) -> list[ImageRecord]:
    """Return records with the joints of another schema.

    A joint of the target is the source's joint of the same name; else, where the source's ``midpoints`` say between
    which two of its joints that name lies, their middle, labelled where both are; else the data set does not label it,
    and training ignores its heatmap in these images.

    Raises:
        DatasetError: the schemas have no joint in common.
    """
    if source.joints == target.joints:
        return records
    parts = [_parts(source, name) for name in target.joints]
    if not any(parts):
        raise DatasetError(
            f"data sets '{source.name}' and '{target.name}' cannot be mixed: no joint of one has the name of any of "
            f"the other ({', '.join(source.joints[:5])} ...; {', '.join(target.joints[:5])} ...)"
        )
    return [_mapped(record, parts) for record in records]


def _parts(source: KeypointSchema, name: str) -> tuple[int, ...]:
    """Return the source's joints whose middle a joint is; none: the source does not label it."""
    names = (name,) if name in source.joints else source.midpoints.get(name, ())
    return tuple(source.joints.index(part) for part in names)


def _mapped(record: ImageRecord, parts: list[tuple[int, ...]]) -> ImageRecord:
    people = len(record.keypoints)
    keypoints = np.zeros((people, len(parts), 3), np.float32)
    confidence = None if record.confidence is None else np.ones((people, len(parts)), np.float32)
    for joint, chosen in enumerate(map(list, parts)):
        if chosen:
            found = record.keypoints[:, chosen]
            keypoints[:, joint, :2], keypoints[:, joint, 2] = found[..., :2].mean(1), found[..., 2].min(1)
            if confidence is not None and record.confidence is not None:
                confidence[:, joint] = record.confidence[:, chosen].min(1)
    annotated = np.array([bool(chosen) for chosen in parts])
    if record.annotated is not None:
        annotated &= [bool(chosen) and bool(record.annotated[list(chosen)].all()) for chosen in parts]
    return replace(record, keypoints=keypoints, confidence=confidence, annotated=annotated)
