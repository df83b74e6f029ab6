"""Left and right joints, found by their names: pairs, and what a schema does not pair."""

import re
from collections.abc import Sequence

from coupled_embedding.data.schema import KeypointSchema

_SIDES = {"left": "l", "lft": "l", "lt": "l", "l": "l", "right": "r", "rgt": "r", "rt": "r", "r": "r"}


def joint_side(name: str) -> tuple[str, str]:
    """Return which side a joint's name names, ``l``, ``r`` or empty, and what the name is without it.

    The word may be anywhere (``LEFT_HAND``, ``eye_left_inner``, ``mixamorig:LeftArm``, ``hand.L``), or written together
    with what it belongs to (``lefthand``).
    """
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", name)]
    sides = [(place, _SIDES[word]) for place, word in enumerate(words) if word in _SIDES]
    if len(sides) == 1:
        ((place, side),) = sides
        return side, " ".join([*words[:place], "*", *words[place + 1 :]])
    together = "".join(words)
    for word in ("left", "right"):
        if not sides and together != word and together.startswith(word):
            return word[0], together.replace(word, "*", 1)
    return "", name


def _sides(joints: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """Return the joints that name a side: body part -> ``l`` and ``r`` -> names."""
    lower = {name.lower() for name in joints}
    by_body: dict[str, dict[str, list[str]]] = {}
    for name in joints:
        side, body = joint_side(name)
        if not side and name[:1] in "lr" and "lr".replace(name[0], "") + name[1:].lower() in lower:
            side, body = name[0], name[1:].lower()  # lhand and rhand
        if side:
            by_body.setdefault(body, {"l": [], "r": []})[side].append(name)
    return by_body


def side_pairs(joints: Sequence[str]) -> list[tuple[str, str]]:
    """Return the (left, right) pairs that the joints' names show."""
    sides = _sides(joints).values()
    return [(one["l"][0], one["r"][0]) for one in sides if len(one["l"]) == len(one["r"]) == 1]


def unpaired_joints(schema: KeypointSchema) -> list[str]:
    """Return a line for each left and right joint that are no flip pair: a flip teaches each as the other."""
    partner = {schema.joints[i]: schema.joints[j] for i, j in enumerate(schema.flip_index)}
    lines = []
    advice = "add the pair, or set AUGMENT.FLIP 0 and TEST.FLIP False"
    for body, sides in _sides(schema.joints).items():
        if len(sides["l"]) == len(sides["r"]) == 1:
            one, other = sides["l"][0], sides["r"][0]
            if partner[one] != other:
                lines.append(
                    f"{one} and {other} are not in flip_pairs of schema '{schema.name}': a flipped image teaches each "
                    f"as the other; {advice}"
                )
            continue
        for name in sides["l"] + sides["r"]:
            # "leftover" alone names no side, and "lefthand" does next to "righthand" only
            if partner[name] == name and " " in body:
                lines.append(
                    f"{name} names a side, but is in no pair of flip_pairs of schema '{schema.name}': a flipped image "
                    f"teaches it as the other side's; {advice}"
                )
    return lines
