"""Pictures of a training batch: true and predicted people, heatmaps, tags."""

import numpy as np
import torch
from numpy.typing import NDArray

from coupled_embedding.data.dataset import TrainBatch
from coupled_embedding.data.pose_output import PoseMaps
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.decode.aggregate import MergedMaps, merge_resolutions
from coupled_embedding.decode.decode import DecodeSettings, decode
from coupled_embedding.visualize import draw_poses, draw_tags, heatmap_overlay, side_by_side

SHOWN_SCORE = 0.15


@torch.no_grad()
def batch_picture(
    batch: TrainBatch, maps: PoseMaps, schema: KeypointSchema, settings: DecodeSettings, stride: int
) -> NDArray[np.uint8]:
    """Return panels of the batch's first photo: truth, prediction, heatmaps and tags.

    Args:
        batch: in host or device memory.
        maps: the network's output for it.
        schema: the joints.
        settings: how to decode.
        stride: input pixels per cell of the lowest resolution.
    """
    image = np.ascontiguousarray(batch.images[0].cpu().numpy()[..., ::-1])
    first = PoseMaps(tuple(h[:1].float() for h in maps.heatmaps), maps.tags[:1].float())
    merged = MergedMaps(merge_resolutions(first), first.tags).cpu()
    identity = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    size = (image.shape[1], image.shape[0])
    people = decode(merged.photo(0), size, identity, settings)
    # from cells to input pixels
    truth = batch.joints[0][0].cpu().numpy().astype(np.float64)
    truth[..., :2] *= stride
    return side_by_side(
        [
            draw_poses(image, truth, schema),
            draw_poses(image, [pose for pose in people if pose.score > SHOWN_SCORE], schema, min_score=SHOWN_SCORE),
            heatmap_overlay(image, merged.heatmaps[0].numpy()),
            draw_tags(image, first.heatmaps[0][0].cpu().numpy(), merged.tags[0].contiguous().numpy()),
        ],
        ["truth", "prediction", "heatmaps", "tags"],
    )
