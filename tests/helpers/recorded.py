"""Recorded decode cases through the library: tests compare the people, `benchmarks/same_numbers.py` their bits."""

import json
from pathlib import Path

import numpy as np
import torch

from coupled_embedding.data.geometry import TestGeometry
from coupled_embedding.data.schema import Pose
from coupled_embedding.decode.aggregate import MergedMaps, merge_flip, merge_scales
from coupled_embedding.decode.decode import DecodeSettings, decode
from coupled_embedding.decode.peaks import PeakSettings


def recorded_maps(npz, options) -> MergedMaps:
    """Cast, merge the mirror and the scales."""
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


def decoded_case(path: Path) -> list[Pose]:
    """Return the people of a recording, ``parity/decode_*.npz``."""
    npz = np.load(path)
    options = json.loads(str(npz["settings"]))
    settings = DecodeSettings(
        tuple(options["inference_channel"]),
        PeakSettings(options["nms_kernel_size"], options["max_num_people"], options["val_th"]),
        options["tag_th"],
        refine=options["with_refine"],
    )
    geometry = TestGeometry(tuple(options["base_size"]), tuple(options["center"]), options["scale"][0] * 200)
    return decode(recorded_maps(npz, options).photo(0), geometry.base_size, geometry.to_photo(), settings)
