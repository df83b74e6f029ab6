"""Recorded decode cases through the library: tests compare the poses, `benchmarks/same_numbers.py` their bits."""

import json
from pathlib import Path

import numpy as np
import torch

from coupled_embedding.data.geometry import ResizeGeometry
from coupled_embedding.data.outputs import Pose
from coupled_embedding.decode.aggregate import ImageMaps, MergedMaps, merge_flip, merge_scales
from coupled_embedding.decode.decode import decode
from coupled_embedding.decode.options import DecodeOptions, PeakOptions


def recorded_maps(npz, options) -> MergedMaps:
    """Cast; merge the flipped image and the scales."""
    merged = []
    for suffix in ("", "_0", "_1"):
        if f"heatmaps{suffix}" in npz:
            heatmaps, tags = (torch.from_numpy(npz[n + suffix].astype(np.float32)) for n in ("heatmaps", "tagmaps"))
            maps = MergedMaps(heatmaps[:1], tags[:1])
            if options["with_flip"]:
                maps = merge_flip(maps, MergedMaps(heatmaps[1:], tags[1:]), options["flip_index"])
            merged.append(maps)
    width, height = options["base_size"]
    return merge_scales(merged, 0, (height, width))


def recorded_case(path: Path) -> tuple[ImageMaps, ResizeGeometry, DecodeOptions]:
    """Return the inputs of `decode` that a recording, ``parity/decode_*.npz``, holds."""
    npz = np.load(path)
    recorded = json.loads(str(npz["settings"]))
    options = DecodeOptions(
        tuple(recorded["inference_channel"]),
        PeakOptions(recorded["nms_kernel_size"], recorded["max_num_people"], recorded["val_th"]),
        recorded["tag_th"],
        refine="fast" if recorded["with_refine"] else "none",
    )
    geometry = ResizeGeometry(tuple(recorded["base_size"]), tuple(recorded["center"]), recorded["scale"][0] * 200)
    return recorded_maps(npz, recorded).image(0), geometry, options


def decoded_case(path: Path) -> list[Pose]:
    """Return the poses of a recording."""
    maps, geometry, options = recorded_case(path)
    return decode(maps, geometry.base_size, geometry.to_image(), options)
