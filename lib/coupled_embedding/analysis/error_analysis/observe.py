"""Run a network over a data set and keep of each photo only what the figures need."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from yacs.config import CfgNode

from coupled_embedding.analysis.error_analysis.grouping_accuracy import GroupingTally, grouping_tally
from coupled_embedding.analysis.error_analysis.joint_tags import joint_tags
from coupled_embedding.analysis.error_analysis.oracles import decode_runs
from coupled_embedding.analysis.error_analysis.separation import Separation, separation
from coupled_embedding.analysis.error_analysis.tag_figures import PersonTags, person_tags
from coupled_embedding.data.geometry import TestGeometry, fit_geometry
from coupled_embedding.data.io.data_errors import BadInput
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import KeypointSchema, Pose
from coupled_embedding.data.test_dataset import InputBatch, InputDataset, input_batches, like_shaped_batches, testable
from coupled_embedding.decode.aggregate import MergedMaps, PhotoMaps
from coupled_embedding.decode.decode import DecodeSettings, grouped
from coupled_embedding.decode.peaks import find_candidates
from coupled_embedding.decode.pipeline import PoseEstimator


@dataclass(frozen=True)
class ObserveSettings:
    """How a photo is looked at.

    Attributes:
        decode: how maps become people.
        strides: input pixels per cell of the network's resolutions, lowest first.
        input_size: S, pixels.
        sigmas: (K,) of the schema.
    """

    decode: DecodeSettings
    strides: tuple[int, ...]
    input_size: int
    sigmas: tuple[float, ...]


def build_observe_settings(cfg: CfgNode, schema: KeypointSchema, estimator: PoseEstimator) -> ObserveSettings:
    """Build the settings of a config and of the network that it is about."""
    strides = estimator.network.strides
    return ObserveSettings(estimator.settings.decode, strides, cfg.DATASET.INPUT_SIZE, schema.sigmas)


@dataclass(frozen=True)
class PhotoFindings:
    """What is kept of a photo.

    Attributes:
        tags: of its people.
        separation, grouping: counts of its joints.
        runs: the people that each of `oracles.RUNS` found.
        dims: D.
        layers: 1, or 2 with the mirrored photo.
    """

    tags: PersonTags
    separation: Separation
    grouping: GroupingTally
    runs: dict[str, list[Pose]]
    dims: int
    layers: int


def observe_photo(
    record: ImageRecord, maps: PhotoMaps, geometry: TestGeometry, settings: ObserveSettings
) -> PhotoFindings:
    """Compare what a network put out for a photo with the photo's annotations.

    Raises:
        NotFiniteError: a map holds NaN or infinity.
    """
    decode = settings.decode
    runs = decode_runs(record, maps, geometry, settings.strides, decode)  # first: it refuses maps that are not finite
    size = geometry.base_size[1], geometry.base_size[0]
    candidates = [find_candidates(k, h, maps.tags, size, decode.peaks) for k, h in enumerate(maps.heatmaps)]
    tags = joint_tags(record, maps, geometry, settings.input_size)
    return PhotoFindings(
        person_tags(tags),
        separation(tags, decode.tag_threshold),
        grouping_tally(record, grouped(candidates, decode), geometry, settings.sigmas),
        runs,
        tags.dims,
        len(maps.tags),
    )


def observe(
    estimator: PoseEstimator,
    records: Sequence[ImageRecord],
    settings: ObserveSettings,
    batch_size: int,
    workers: int = 0,
    progress: Callable[[int], object] = lambda photos: None,
    bad_input: BadInput | None = None,
) -> dict[int, PhotoFindings]:
    """Look at every photo; maps are kept of one batch at a time.

    Args:
        estimator: runs the network.
        records: the photos.
        settings: how to look.
        batch_size: photos of like shape per forward pass.
        workers: loader processes.
        progress: called with the number of photos just done.
        bad_input: what happens to photos that cannot be read or are too long; None: they are
            errors. A tolerant one leaves them out, and knows of them afterwards.

    Returns:
        Findings by image id, in the records' order.

    Raises:
        DatasetError: a photo cannot be read, or is far longer than wide.
        NotFiniteError: the network put out NaN or infinity.
    """
    bad_input = bad_input or BadInput()
    usable = testable(records, bad_input)
    sizes = [fit_geometry((r.width, r.height), settings.input_size).base_size for r in usable]
    batches = like_shaped_batches(sizes, batch_size)
    dataset = InputDataset(usable, batches, settings.input_size, estimator.settings.scales, bad_input)
    found: dict[int, PhotoFindings] = {}
    with ThreadPoolExecutor(max(1, estimator.threads)) as pool:
        for batch, maps in _maps(estimator, dataset, workers):
            read = [number for number, index in enumerate(batch.indices) if index not in batch.skipped]
            chosen = [usable[batch.indices[number]] for number in read]
            geometries = [batch.geometries[number] for number in read]
            photos = pool.map(observe_photo, chosen, map(maps.photo, read), geometries, [settings] * len(chosen))
            found |= {record.image_id: photo for record, photo in zip(chosen, photos, strict=True)}
            bad_input.remember(batch.skipped.values())
            progress(len(batch.indices))
    return {record.image_id: found[record.image_id] for record in usable if record.image_id in found}


def _maps(estimator: PoseEstimator, dataset: InputDataset, workers: int) -> Iterator[tuple[InputBatch, MergedMaps]]:
    """Yield each batch with its maps."""
    if not len(dataset):
        return
    for batch in input_batches(dataset, workers, estimator.device.type == "cuda"):
        yield batch, estimator.maps(batch.images, batch.geometries[0].base_size).cpu()
