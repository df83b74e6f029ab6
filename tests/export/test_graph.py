"""The graph that is exported computes the library's maps, and the candidates in them."""

import dataclasses

import numpy as np
import pytest
import torch

from coupled_embedding.decode.fast.upsample import upsample as upsample_map
from coupled_embedding.decode.peaks import find_candidates
from coupled_embedding.evaluation import build_pose_nms
from coupled_embedding.export.describe import decoder_options, describe
from coupled_embedding.export.graph import OUTPUTS, ExportGraph, upsample
from coupled_embedding.utils.errors import UserError


@pytest.fixture(scope="module")
def inputs() -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (2, 128, 64, 3), generator=generator, dtype=torch.uint8)


def outputs(graph: ExportGraph, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return dict(zip(OUTPUTS, graph.eval()(inputs.permute(0, 3, 1, 2)), strict=True))


@pytest.mark.parametrize("flip", [True, False])
def test_maps_are_the_pipelines(lively, pipeline, inputs, flip):
    options = dataclasses.replace(pipeline.options, flip=flip)
    expected = type(pipeline)(lively.network, options).forward([inputs], (64, 128))
    found = outputs(ExportGraph(lively.network, options), inputs)
    torch.testing.assert_close(found["heatmaps"], expected.heatmaps, rtol=1e-4, atol=1e-4)
    tags = [expected.tags]
    if flip:
        tags.append(expected.flipped_tags[:, list(options.flip_index)].flip(3))
    torch.testing.assert_close(found["tags"], torch.cat(tags, 4).permute(0, 1, 4, 2, 3), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dedup", [True, False])
def test_peaks_are_the_librarys_candidates(lively, pipeline, inputs, dedup):
    peaks = dataclasses.replace(pipeline.options.decode.peaks, dedup_plateaus=dedup, max_candidates=9, threshold=0.02)
    decode = dataclasses.replace(pipeline.options.decode, peaks=peaks)
    found = outputs(ExportGraph(lively.network, dataclasses.replace(pipeline.options, decode=decode)), inputs)
    compared = 0
    for image in range(2):
        values = np.ascontiguousarray(found["tags"][image].permute(2, 3, 0, 1).numpy())
        views = [type(pipeline.forward([inputs], (64, 128)).image(0).tags[0])(values)]
        for joint, heatmap in enumerate(found["heatmaps"][image].numpy()):
            expected = find_candidates(joint, heatmap, views, (128, 64), peaks)
            count = len(expected.scores)
            pixels, scores, tags = (found[name][image, joint, :count].numpy() for name in OUTPUTS[2:])
            assert len(found["peak_scores"][image, joint]) == 10
            assert set(pixels.tolist()) == set((expected.pixels @ [1, 64]).tolist())
            assert scores.tolist() == expected.scores.tolist()
            order = np.argsort(pixels, kind="stable")
            np.testing.assert_array_equal(tags[order], expected.tags[np.argsort(expected.pixels @ [1, 64])])
            compared += count
    assert compared > 50


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_upsampling_rounds_as_the_library(factor):
    maps = torch.randn(2, 3, 7, 5, generator=torch.Generator().manual_seed(factor))
    found = upsample(maps, factor).numpy().reshape(6, 7 * factor, 5 * factor)
    for plane, heatmap in zip(found, maps.numpy().reshape(6, 7, 5), strict=True):
        np.testing.assert_array_equal(plane, upsample_map(heatmap, 7 * factor, 5 * factor))


def test_several_scales_are_an_error(lively, pipeline):
    with pytest.raises(UserError, match=r"TEST\.SCALES.*one scale"):
        ExportGraph(lively.network, dataclasses.replace(pipeline.options, scales=(1.0, 2.0)))


@pytest.mark.parametrize(("option", "value"), [("regroup", 1), ("cost", "distance")])
def test_groupings_that_an_export_does_not_have_are_errors(pipeline, option, value):
    names = {"regroup": "TEST.REGROUP", "cost": "TEST.GROUPING_COST"}
    with pytest.raises(UserError, match=f"{names[option]}.*give"):
        decoder_options(dataclasses.replace(pipeline.options.decode, **{option: value}))


def test_a_suppression_of_poses_is_an_error(lively, pipeline):
    options = dataclasses.replace(pipeline.options, pose_nms=build_pose_nms("oks", lively.schema.sigmas))
    with pytest.raises(UserError, match=r"TEST\.POSE_NMS.*give none"):
        describe(options, lively.schema, lively.cfg.DATASET.INPUT_SIZE, "lively", {})


def test_half_precision_changes_the_maps_little(lively, pipeline, inputs):
    exact = outputs(ExportGraph(lively.network, pipeline.options), inputs)
    half = outputs(ExportGraph(lively.network, pipeline.options, half=True), inputs)
    for name in ("heatmaps", "tags"):
        assert half[name].dtype == torch.float32
        assert 0 < (half[name] - exact[name]).abs().max() < 0.02 * exact[name].abs().max()
    assert next(lively.network.parameters()).dtype == torch.float32  # the network stays as it is
