"""Evaluate a network on a data set: predict every image once, over all ranks, and score the poses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tqdm import tqdm

from coupled_embedding.data.io.data_errors import DataErrorPolicy
from coupled_embedding.data.outputs import Pose
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.data.test_dataset import (
    TestDataset,
    aspect_error,
    build_test_loader,
    drop_extreme_aspect,
    group_by_shape,
    input_geometry,
)
from coupled_embedding.decode.pipeline import InferencePipeline, PipelineOptions
from coupled_embedding.decode.stage_times import StageTimes
from coupled_embedding.evaluation import (
    GroundTruth,
    Scores,
    load_ground_truth,
    poses_to_results,
    score_results,
)
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.utils.distributed import DistEnv, gather, run_on_rank0

PosesByImage = dict[int, list[Pose]]


@dataclass(frozen=True)
class EvalOptions:
    """How a split is predicted and scored; the meanings are those of the options TEST in `config.defaults`."""

    input_size: int
    images_per_batch: int = 4
    workers: int = 0
    max_detections: int = 0
    oks_backend: str = "pycocotools"
    overlays: int = 0


@dataclass(frozen=True)
class EvalJob:
    """A network and what to evaluate it on."""

    __test__ = False  # not a test class for pytest
    network: PoseNetwork  # on its device; evaluation puts it in evaluation mode
    pipeline: PipelineOptions
    options: EvalOptions
    schema: KeypointSchema
    split: str
    records: Sequence[ImageRecord]  # the split's images
    annotations: Path  # the split's file
    is_subset: bool = False  # whether only the images of `records` count
    policy: DataErrorPolicy = field(default_factory=DataErrorPolicy)  # scores count skipped images, without detections
    name: str = ""  # of the run
    weights: Path = Path()  # file of the network
    folder: Path = Path()  # for results
    warnings: tuple[str, ...] = ()  # about annotations and weights
    ground_truth: GroundTruth | None = None  # of the records, for evaluating often; None: it is read from the file
    crops: Sequence[ImageRecord] | None = None  # of people in the records, which are predicted; None: whole images are
    source_name: str = "annotation_id"  # of a pose's source in results

    @property
    def inputs(self) -> Sequence[ImageRecord]:
        """What the network sees: the images, or crops of people."""
        return self.records if self.crops is None else self.crops

    def load_ground_truth(self) -> GroundTruth:
        """Return the annotated people of the records."""
        ids = [record.image_id for record in self.records] if self.is_subset else None
        return self.ground_truth or load_ground_truth(self.annotations, self.schema, ids)

    def new_pipeline(self, ranks: int = 1) -> InferencePipeline:
        """Return a pipeline of the network as it is now; ``ranks`` share this machine's cores."""
        return InferencePipeline(self.network.eval(), self.pipeline, ranks=ranks)


@dataclass(frozen=True)
class EvalResult:
    """What an evaluation returns."""

    poses: PosesByImage  # by image id
    results: list[dict[str, object]]  # the same in COCO's results format; on rank 0 only
    scores: Scores | None  # None where the annotations are not public; the same on all ranks
    times: StageTimes  # seconds a stage, over this rank's images


def evaluate(job: EvalJob, env: DistEnv, progress: bool = False) -> EvalResult:
    """Predict a split and score the poses by the rules of its benchmark; rank 0 scores for all.

    Args:
        job: network, images and options.
        env: this rank.
        progress: whether to show a bar.
    """
    poses, times = predict_split(job, env, progress)
    results: list[dict[str, object]] = []

    def score() -> Scores | None:
        truth = job.load_ground_truth()
        most = job.options.max_detections
        results.extend(poses_to_results(poses, truth.categories.result, most, job.source_name))
        return score_results(truth, results, job.schema, job.options.oks_backend) if truth.annotated else None

    return EvalResult(poses, results, run_on_rank0(score, env), times)


def predict_split(job: EvalJob, env: DistEnv, progress: bool = False) -> tuple[PosesByImage, StageTimes]:
    """Return the poses of every image, on every rank, each image or crop predicted by one rank.

    An image that cannot be read is an error; where it is skipped it has no detections, and the job's policy has the
    issues of all ranks afterwards.
    """
    times = StageTimes()
    share = -(-len(job.inputs) // env.world_size)
    with tqdm(
        total=share, unit="image" if job.crops is None else "crop", desc="test", disable=not (progress and env.is_rank0)
    ) as bar:
        mine = predict_records(job, job.new_pipeline(env.local_ranks), env, times, bar.update)
    poses: PosesByImage = {}
    for part, issues, oriented in gather((mine, job.policy.issues, job.policy.oriented), env):
        for image_id, found in part.items():
            poses.setdefault(image_id, []).extend(found)
        job.policy.add(issues)
        job.policy.oriented |= oriented
    # the order of the annotation file, regardless of the ranks
    order = {(record.image_id, record.source): place for place, record in enumerate(job.inputs)}
    ordered = {
        image_id: sorted(poses.get(image_id, []), key=lambda pose: order[image_id, pose.source])
        for image_id in (record.image_id for record in job.records)
    }
    # all of an image are here only now: its crops may be of several ranks
    return {image_id: job.pipeline.suppress(found) for image_id, found in ordered.items()}, times


def predict_records(
    job: EvalJob,
    pipeline: InferencePipeline,
    env: DistEnv,
    times: StageTimes,
    progress: Callable[[int], object] = lambda images: None,
) -> PosesByImage:
    """Return the poses of this rank's share of the images or crops, in decode's order.

    Every image of the share has an entry, which holds the poses of the share's crops of it.

    Batches are formed over the whole split first and then sharded, so that an image meets the same batch, and so the
    same rounding, on any number of ranks.

    Args:
        job: images and options.
        pipeline: of the job's network.
        env: this rank.
        times: filled with seconds a stage.
        progress: called with the number of images just done.

    Raises:
        DatasetError: an image cannot be read, or is far longer than wide.
    """
    usable = drop_extreme_aspect(job.inputs, job.policy)
    poses: PosesByImage = {r.image_id: [] for r in job.records if aspect_error((r.width, r.height))}
    sizes = [input_geometry(record, job.options.input_size).base_size for record in usable]
    batches = group_by_shape(sizes, job.options.images_per_batch, job.options.input_size)[env.rank :: env.world_size]
    if not batches:
        return poses
    dataset = TestDataset(usable, batches, job.options.input_size, pipeline.options.scales, job.policy)
    loader = build_test_loader(dataset, job.options.workers, pipeline.device.type == "cuda")
    try:
        for batch, detected in pipeline.run(loader, times):
            for index, found in zip(batch.indices, detected, strict=True):
                of_image = poses.setdefault(usable[index].image_id, [])
                of_image += [] if index in batch.skipped else _of_input(found, usable[index])
            job.policy.add(batch.skipped.values())
            job.policy.oriented |= dict.fromkeys(batch.oriented)
            progress(len(detected))
    except RuntimeError as error:
        dataset.raise_if_worker_died(error)
        raise
    return poses


def _of_input(found: list[Pose], record: ImageRecord) -> list[Pose]:
    """Return the poses found in an image or a crop; those of a crop with its source, scored by its box too."""
    if not record.region:
        return found
    return [replace(pose, score=pose.score * record.box_score, source=record.source) for pose in found]
