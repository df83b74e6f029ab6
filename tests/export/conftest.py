"""Maps as an exported model outputs them, for tests of its decoder."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from coupled_embedding.decode.aggregate import ImageMaps
from coupled_embedding.decode.options import DecodeOptions
from coupled_embedding.export.describe import decoder_options
from coupled_embedding.export.graph import OUTPUTS, PeakFinder
from coupled_embedding.export.pose_decoder import Options


def model_outputs(maps: ImageMaps, size: tuple[int, int], options: DecodeOptions) -> dict[str, np.ndarray]:
    """Return what a model with these merged maps outputs, for an input of (H, W), without the batch's axis."""
    views = []
    for view in maps.tags:
        tags = view.values.transpose(2, 3, 0, 1)  # (K, D, h, w)
        views.append(tags if view.flip_index is None else tags[list(view.flip_index), :, :, ::-1])
    heatmaps, tags = torch.from_numpy(maps.heatmaps)[None], torch.from_numpy(np.concatenate(views, 1))[None]
    finder = PeakFinder(size[0] // heatmaps.shape[2], size[0] // tags.shape[3], options.peaks)
    values = (heatmaps, tags, *finder(heatmaps, tags))
    return {name: value[0].numpy() for name, value in zip(OUTPUTS, values, strict=True)}


@pytest.fixture(scope="session")
def outputs_of() -> Callable[..., dict[str, np.ndarray]]:
    return model_outputs


@pytest.fixture(scope="session")
def options_of() -> Callable[[DecodeOptions], Options]:
    """The decoder's options for the library's, by way of model.json's text."""
    return lambda options: Options.from_dict(decoder_options(options))
