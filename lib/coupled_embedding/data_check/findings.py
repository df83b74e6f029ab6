"""What can be read and yet looks wrong: a list by kind, each with file and ids."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.bad_input import PHOTO, Problem
from coupled_embedding.data.entries import AnnotationEntry, ImageEntry
from coupled_embedding.inference.inputs import shape_problem

# joints may lie this far outside the box, in parts of its longer side: boxes are drawn around what is
# seen, joints lie inside the body, and annotators of the one did not see the other
BOX_MARGIN = 0.1

Findings = dict[str, list[Problem]]


@dataclass(frozen=True)
class _Person:
    """A labelled person: its entry in the file, joints (K, 3) and box (4,)."""

    entry: Any
    keypoints: NDArray[np.float32]
    box: NDArray[np.float32]

    @property
    def joints(self) -> NDArray[np.float32]:
        return self.keypoints[self.keypoints[:, 2] > 0, :2]


def broken(problems: Sequence[Problem]) -> Findings:
    """Return by kind what the reader refused."""
    found: Findings = defaultdict(list)
    for problem in problems:
        kind = "photos that cannot be read" if problem.field == PHOTO else f"broken entries: {problem.field}"
        found[kind].append(problem)
    return found


def suspicious(
    image: ImageEntry, entries: Sequence[tuple[Any, AnnotationEntry]], counts_labels: bool
) -> Iterator[tuple[str, Problem]]:
    """Yield kind and finding of one photo's annotations.

    Args:
        image: the photo.
        entries: its annotations, as in the file and as read.
        counts_labels: whether ``num_keypoints`` must be the number of labelled joints; CrowdPose
            leaves head and neck out.
    """
    if too_long := shape_problem((image.width, image.height)):
        yield "photos too long to test", Problem(str(image.path), too_long, "width", image.image_id)
    people = [_Person(raw, *entry.person) for raw, entry in entries if entry.person]
    for raw, entry in entries:
        if entry.person and not (entry.person[0][:, 2] > 0).any() and entry.ignored is None:
            text = "no joint is labelled and no segmentation says where to ignore it"
            yield "people without any label", _of(image, raw, "keypoints", text)
    for person in people:
        if len(person.joints):
            yield from _misplaced(image, person)
            count = person.entry.get("num_keypoints")
            if counts_labels and count is not None and count != len(person.joints):
                text = f"num_keypoints is {count}, but {len(person.joints)} joints are labelled"
                yield "num_keypoints and labels differ", _of(image, person.entry, "num_keypoints", text)
    yield from _repeated(image, people)


def _misplaced(image: ImageEntry, person: _Person) -> Iterator[tuple[str, Problem]]:
    joints, box = person.joints, person.box.astype(np.float64)
    corners = np.array([box[:2], box[:2] + box[2:]])
    outside = ((joints < 0) | (joints > (image.width, image.height))).any(1).sum()
    if outside:
        text = f"{outside} of {len(joints)} labelled joints are outside the photo"
        yield "joints outside the photo", _of(image, person.entry, "keypoints", text)
    if box[2] * box[3] == 0:
        text = f"the box {person.entry['bbox']} has no area, so the person has no scale"
        yield "boxes without area", _of(image, person.entry, "bbox", text)
        return
    if (corners[0] >= (image.width, image.height)).any() or (corners[1] <= 0).any():
        text = f"the box {person.entry['bbox']} is outside the photo of {image.width}×{image.height}"
        yield "people outside the photo", _of(image, person.entry, "bbox", text)
    margin = BOX_MARGIN * box[2:].max()
    strays = ((joints < corners[0] - margin) | (joints > corners[1] + margin)).any(1).sum()
    if strays:
        text = f"{strays} of {len(joints)} labelled joints are more than {BOX_MARGIN:.0%} of its side outside the box"
        yield "joints outside the box", _of(image, person.entry, "bbox", text)


def _repeated(image: ImageEntry, people: Sequence[_Person]) -> Iterator[tuple[str, Problem]]:
    first: dict[bytes, Any] = {}
    for person in people:
        key = person.keypoints.tobytes()
        if len(person.joints) and first.setdefault(key, person.entry) is not person.entry:
            text = f"has the same joints as annotation {first[key].get('id', '?')}"
            yield "people annotated twice", _of(image, person.entry, "keypoints", text)


def _of(image: ImageEntry, raw: Any, field: str, text: str) -> Problem:
    own_id = raw.get("id")
    name = f"annotation {'?' if own_id is None else own_id} of image {image.image_id}"
    return Problem(str(image.path), f"{name}: {text}", field, image.image_id, own_id)
