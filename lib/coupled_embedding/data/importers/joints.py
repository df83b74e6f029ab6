"""The schema of an imported data set: what its source says of the joints, and defaults for what it does not."""

from collections.abc import Sequence
from typing import Any

from coupled_embedding.data.importers.parts import Joints
from coupled_embedding.data.joint_sides import joint_side, side_pairs
from coupled_embedding.data.schema import load_schema

# of joints that neither COCO nor CrowdPose has: the mean of COCO's 17
DEFAULT_SIGMA = 0.067


def schema_fields(joints: Joints) -> tuple[dict[str, Any], list[str]]:
    """Return joints, flip_pairs, skeleton and sigmas of a schema, and what of it to review, a line each.

    A sigma is that of COCO's joint (CrowdPose's for head and neck) of the same name, sides and spelling aside, else
    `DEFAULT_SIGMA`. Pairs that the source does not give are those of left and right in the names; a skeleton that it
    does not give is that of COCO and CrowdPose between joints of these names.
    """
    names, review = joints.names, []
    if joints.pairs is None:
        pairs = [list(pair) for pair in side_pairs(names)]
        review.append(f"flip_pairs: {len(pairs)}, found by the names (left, right)")
        if not pairs:
            review[-1] = "flip_pairs: none found by the names; add them, or set AUGMENT.FLIP 0 and TEST.FLIP False"
    else:
        pairs = [[names[i] for i in pair] for pair in joints.pairs]
    if joints.edges is None:
        edges = _known_edges(names)
        review.append(f"skeleton: {len(edges)} lines of COCO and CrowdPose; for drawings only")
    else:
        edges = [[names[i] for i in pair] for pair in joints.edges]
    known = _known_sigmas()
    sigmas = [known.get(_part(name), DEFAULT_SIGMA) for name in names]
    unknown = [name for name in names if _part(name) not in known]
    text = f"{len(names) - len(unknown)} of {len(names)} joints have COCO's or CrowdPose's, by their names"
    if unknown:
        text += f"; {DEFAULT_SIGMA}, the mean of COCO's, for {', '.join(unknown)}: larger is more lenient"
    review.append(f"sigmas (scores only): {text}")
    return {"joints": list(names), "flip_pairs": pairs, "skeleton": edges, "sigmas": sigmas}, review


def _part(name: str) -> str:
    """Return what a joint is called without its side, in one spelling: ``l_Wrist`` is ``wrist``."""
    _, body = joint_side(name)
    return "".join(c for c in body.lower() if c.isalnum())


def _known_sigmas() -> dict[str, float]:
    schemas = [load_schema(f"datasets/{name}.yaml") for name in ("crowdpose", "coco")]
    return {
        _part(joint): sigma for schema in schemas for joint, sigma in zip(schema.joints, schema.sigmas, strict=True)
    }


def _known_edges(names: Sequence[str]) -> list[list[str]]:
    """Return the edges of the known skeletons between these joints."""
    by_key = {(joint_side(name)[0], _part(name)): name for name in names}
    edges: dict[frozenset[str], list[str]] = {}
    for schema in (load_schema(f"datasets/{name}.yaml") for name in ("coco", "crowdpose")):
        keys = [(joint_side(joint)[0], _part(joint)) for joint in schema.joints]
        for a, b in schema.skeleton:
            if keys[a] in by_key and keys[b] in by_key:
                pair = [by_key[keys[a]], by_key[keys[b]]]
                edges.setdefault(frozenset(pair), pair)
    return list(edges.values())
