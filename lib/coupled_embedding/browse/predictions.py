"""Where the poses of a data set's images come from: a results file, or a network."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import torch

from coupled_embedding.analysis.error_analysis.keypoint_errors import rows_by_image
from coupled_embedding.data.geometry import resize_geometry
from coupled_embedding.data.images import read_record_image
from coupled_embedding.data.io.data_errors import DataErrorPolicy
from coupled_embedding.data.outputs import Pose
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.data.test_dataset import TestDataset, drop_extreme_aspect, group_by_shape, warp_to_input
from coupled_embedding.decode.fields import NetworkFields, network_fields
from coupled_embedding.engine.evaluate import EvalJob
from coupled_embedding.evaluation import GroundTruth, filter_detections, read_results
from coupled_embedding.utils.errors import DatasetError

_FILE_BATCH = 64  # images of a results file that are analyzed at a time
_KEPT_FIELDS = 2  # images whose heatmaps and tags are kept, to draw other joints of


class Predictions(Protocol):
    """Poses by image, in batches that are found together."""

    batches: Sequence[Sequence[int]]  # image ids; an image is in one at most
    failed: dict[int, str]  # images that are in no batch -> why

    def poses(self, number: int) -> dict[int, list[Pose] | str]:
        """Return the poses of a batch's images, in decode's order, or why there are none."""


class FilePredictions:
    """The poses in a results file, of this or another program.

    Args:
        path: of the file.
        truth: the images.
        schema: the joints.

    Raises:
        DatasetError: the file cannot be read, or is of other images or joints.
    """

    def __init__(self, path: str | Path, truth: GroundTruth, schema: KeypointSchema) -> None:
        found = filter_detections(read_results(path, schema), truth, schema, str(path))
        self._keypoints, self._scores = found.keypoints.reshape(-1, schema.num_joints, 3), found.scores
        self._rows = rows_by_image(found.image_ids)
        ids = list(truth.images)
        self.batches = [ids[start : start + _FILE_BATCH] for start in range(0, len(ids), _FILE_BATCH)]
        self.failed: dict[int, str] = {}

    def poses(self, number: int) -> dict[int, list[Pose] | str]:
        """Return the poses of a batch's images."""
        return {
            image_id: [Pose(self._keypoints[row], float(self._scores[row])) for row in self._rows.get(image_id, ())]
            for image_id in self.batches[number]
        }


class NetworkPredictions:
    """The poses that a network finds: those of `evaluate` and of the diagnosis, from the same batches.

    Args:
        job: network and images. An image that cannot be read has no poses, whatever the job's policy is.
    """

    def __init__(self, job: EvalJob) -> None:
        job.pipeline.grouping()  # it shows whole images
        self._size, self._pipeline = job.options.input_size, job.new_pipeline()
        policy = DataErrorPolicy(skip=True, scored=True)
        usable = drop_extreme_aspect(job.records, policy)
        self.failed = {issue.image_id: issue.text for issue in policy.issues if issue.image_id is not None}
        sizes = [resize_geometry((r.width, r.height), self._size).base_size for r in usable]
        positions = group_by_shape(sizes, job.options.images_per_batch, self._size)
        self.batches = [[usable[position].image_id for position in batch] for batch in positions]
        self._dataset = TestDataset(usable, positions, self._size, job.pipeline.scales, policy)
        self.fields = lru_cache(_KEPT_FIELDS)(self._fields)
        self._records = {record.image_id: record for record in usable}

    def poses(self, number: int) -> dict[int, list[Pose] | str]:
        """Run the network on a batch's images."""
        batch = self._dataset[number]
        if isinstance(batch, DatasetError):
            raise batch
        ((_, found),) = self._pipeline.run([batch])
        skipped = [batch.skipped.get(index) for index in batch.indices]
        entries = zip(self.batches[number], found, skipped, strict=True)
        suppress = self._pipeline.options.suppress
        return {image_id: issue.text if issue else suppress(poses) for image_id, poses, issue in entries}

    def _fields(self, image_id: int) -> NetworkFields:
        """Run the network on one image; ``fields`` keeps the last results. DatasetError if it cannot be read."""
        if image_id in self.failed:
            raise DatasetError(self.failed[image_id])
        record = self._records[image_id]
        pixels, geometry = read_record_image(record), resize_geometry((record.width, record.height), self._size)
        inputs = [torch.from_numpy(warp_to_input(pixels, geometry, f)) for f in self._pipeline.options.scales]
        return network_fields(self._pipeline, pixels, inputs, geometry)
