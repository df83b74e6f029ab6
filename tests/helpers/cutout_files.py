"""Files of cut-outs, made of arrays."""

import json
import zipfile

import numpy as np
from invalid_images import encoded

JOINTS = ("nose", "left_paw", "right_paw")
FLIP_INDEX = (0, 2, 1)


def rectangle(size=(30, 60), box=None, color=(255, 255, 255), around=(0, 0, 0)):
    """Return the pixels and the mask of a (width, height) cut-out: one color in a box x, y, width, height."""
    x, y, width, height = box or (0, 0, *size)
    mask = np.zeros(size[::-1], np.uint8)
    mask[y : y + height, x : x + width] = 255
    return np.where(mask[..., None] > 0, color, around).astype(np.uint8), mask


def person(pixels, mask, keypoints=((15, 6, 2), (4, 30, 2), (25, 30, 2)), scores=None):
    """Return what `write_cutouts` takes for a person."""
    scored = {} if scores is None else {"keypoint_scores": list(scores)}
    size = {"width": mask.shape[1], "height": mask.shape[0]}
    return pixels, mask, {**size, "keypoints": [float(v) for joint in keypoints for v in joint], **scored}


def write_cutouts(path, people, names=JOINTS, **changed):
    """Write a JSON file of cut-outs and the zip file beside it; ``changed`` fields go over the first person's."""
    entries = []
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        for number, (pixels, mask, entry) in enumerate(people):
            archive.writestr(f"{number}.png", encoded(".png", pixels))
            archive.writestr(f"{number}_mask.png", encoded(".png", mask))
            entries.append({"file_name": f"{number}.png", "mask": f"{number}_mask.png", **entry})
    entries[0] |= changed
    path.write_text(json.dumps({"keypoint_names": list(names), "people": entries}))
    return path
