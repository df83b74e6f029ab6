"""Run a network over a split and keep of each image only what the analysis needs."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from coupled_embedding.analysis.error_analysis.grouping_accuracy import (
    GroupingCounts,
    grouping_counts,
    groups_of_poses,
)
from coupled_embedding.analysis.error_analysis.oracles import PREDICTED, decode_runs
from coupled_embedding.analysis.error_analysis.separation import Separation, separation
from coupled_embedding.analysis.error_analysis.tags import PersonTags, joint_tags, person_tags
from coupled_embedding.data.geometry import ResizeGeometry, resize_geometry
from coupled_embedding.data.outputs import Pose
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.test_dataset import TestDataset, build_test_loader, drop_extreme_aspect, group_by_shape
from coupled_embedding.decode.aggregate import ImageMaps
from coupled_embedding.decode.decode import group_candidates
from coupled_embedding.decode.peaks import find_candidates
from coupled_embedding.engine.evaluate import EvalJob


@dataclass(frozen=True)
class ImageAnalysis:
    """What is kept of an image."""

    tags: PersonTags
    separation: Separation
    grouping: GroupingCounts
    runs: dict[str, list[Pose]]  # the poses that each of `oracles.RUNS` detects
    dims: int  # D
    views: int  # 1, or 2 with the flipped image


def analyze_image(job: EvalJob, record: ImageRecord, maps: ImageMaps, geometry: ResizeGeometry) -> ImageAnalysis:
    """Compare a network's output for an image with the image's annotations.

    Raises:
        NonFiniteError: a map holds NaN or infinity.
    """
    options = job.pipeline.grouping()
    runs = decode_runs(record, maps, geometry, job.network.strides, options)  # first: raises for non-finite maps
    runs = {name: job.pipeline.suppress(poses) for name, poses in runs.items()}
    if options.centers is not None:
        groups = groups_of_poses(runs[PREDICTED], geometry, options.joint_threshold, len(maps.heatmaps))
    else:
        size = geometry.base_size[1], geometry.base_size[0]
        candidates = [find_candidates(k, h, maps.tags, size, options.peaks) for k, h in enumerate(maps.heatmaps)]
        groups = group_candidates(candidates, maps, size, options)
    grouping = grouping_counts(record, groups, geometry, job.schema.sigmas)
    tags = joint_tags(record, maps, geometry, job.options.input_size)
    separated = separation(tags, options.tag_threshold)
    return ImageAnalysis(person_tags(tags), separated, grouping, runs, tags.dims, len(maps.tags))


def collect(job: EvalJob, progress: Callable[[int], object] = lambda images: None) -> dict[int, ImageAnalysis]:
    """Analyze every image of a job; maps are kept of one batch at a time.

    Args:
        job: network and images; its policy has the issues of images that were skipped afterwards.
        progress: called with the number of images just done.

    Returns:
        By image id, in the records' order; skipped images are left out.

    Raises:
        DatasetError: an image cannot be read, or is far longer than wide, and the policy does not skip it.
        NonFiniteError: the network output NaN or infinity.
    """
    job.pipeline.grouping()  # before the network runs
    pipeline, size = job.new_pipeline(), job.options.input_size
    usable = drop_extreme_aspect(job.records, job.policy)
    sizes = [resize_geometry((r.width, r.height), size).base_size for r in usable]
    batches = group_by_shape(sizes, job.options.images_per_batch, size)
    dataset = TestDataset(usable, batches, size, job.pipeline.scales, job.policy)
    loader = build_test_loader(dataset, job.options.workers, pipeline.device.type == "cuda") if batches else ()
    images: dict[int, ImageAnalysis] = {}
    with ThreadPoolExecutor(max(1, pipeline.threads)) as pool:
        for batch in loader:
            maps = pipeline.forward(batch.images, batch.geometries[0].base_size).cpu()
            read = [number for number, index in enumerate(batch.indices) if index not in batch.skipped]
            records = [usable[batch.indices[number]] for number in read]
            geometries = [batch.geometries[number] for number in read]
            done = pool.map(partial(analyze_image, job), records, map(maps.image, read), geometries)
            images |= {record.image_id: image for record, image in zip(records, done, strict=True)}
            job.policy.add(batch.skipped.values())
            progress(len(batch.indices))
    return {record.image_id: images[record.image_id] for record in usable if record.image_id in images}
