"""A training batch, drawn: ground truth and predictions, heatmaps, tags."""

import numpy as np
import torch
from numpy.typing import NDArray

from coupled_embedding.data.dataset import TrainBatch
from coupled_embedding.data.outputs import PoseOutput
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.decode.aggregate import MergedMaps, merge_resolutions
from coupled_embedding.decode.pipeline import AnyDecodeOptions, decode_maps
from coupled_embedding.visualize import draw_poses, draw_tags, heatmap_overlay, side_by_side

MIN_SCORE = 0.15


@torch.no_grad()
def draw_batch(
    batch: TrainBatch, output: PoseOutput, schema: KeypointSchema, options: AnyDecodeOptions, stride: int
) -> NDArray[np.uint8]:
    """Return panels of the batch's first image, BGR: ground truth, predictions, heatmaps and tags.

    Args:
        batch: in host or device memory.
        output: of the network for it.
        schema: the joints.
        options: how to decode.
        stride: input pixels per cell of the lowest resolution.

    Raises:
        NonFiniteError: the output holds NaN or infinity.
    """
    image = np.ascontiguousarray(batch.images[0].cpu().numpy()[..., ::-1])
    first = PoseOutput(tuple(h[:1].float() for h in output.heatmaps), output.tags[:1].float())
    pafs, centers = (None if maps is None else maps[:1].float() for maps in (output.pafs, output.centers))
    merged = MergedMaps(merge_resolutions(first), first.tags, pafs=pafs, centers=centers).cpu()
    identity = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    poses = decode_maps(merged.image(0), (image.shape[1], image.shape[0]), identity, options)
    # from cells to input pixels
    truth = batch.joints[0][0].cpu().numpy().astype(np.float64)
    truth[..., :2] *= stride
    panels = {
        "ground truth": draw_poses(image, truth, schema),
        "predictions": draw_poses(image, [p for p in poses if p.score > MIN_SCORE], schema, min_score=MIN_SCORE),
        "heatmaps": heatmap_overlay(image, merged.heatmaps[0].numpy()),
    }
    if merged.tags.shape[-1]:
        tags = merged.tags[0].contiguous().numpy()
        panels["tags"] = draw_tags(image, first.heatmaps[0][0].cpu().numpy(), tags)
    return side_by_side(list(panels.values()), list(panels))
