"""Test a network on a data set: predict every photo once, over all processes, and score."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
from yacs.config import CfgNode

from coupled_embedding.config import default_config, flat, load_config, override
from coupled_embedding.data.audit import unpaired_joints, warnings
from coupled_embedding.data.images import read_photo
from coupled_embedding.data.io.data_errors import BadInput, build_bad_input
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import KeypointSchema, Pose
from coupled_embedding.decode.pipeline import PoseEstimator, StageTimes, build_estimator_settings
from coupled_embedding.engine.checkpoint_files import config_of
from coupled_embedding.evaluation import (
    GroundTruth,
    Scores,
    box_areas,
    image_quality,
    load_ground_truth,
    poses_to_results,
    results_file_name,
    score_results,
    write_results,
    write_submission,
)
from coupled_embedding.networks.pose_network import PoseNetwork, sketch_network
from coupled_embedding.networks.weights import load_network
from coupled_embedding.predictor import predict_records
from coupled_embedding.prepare import annotations_of, records_of, render_missing, schema_of
from coupled_embedding.utils.atomic import write_whole
from coupled_embedding.utils.distributed import World, barrier, gather, on_main
from coupled_embedding.utils.errors import CheckpointError, UserError
from coupled_embedding.visualize import draw_poses, save_image, side_by_side

People = dict[int, list[Pose]]

# refinement gives every absent joint a place, however unlikely; pictures leave those out
SHOWN_JOINT = 0.1


@dataclass(frozen=True)
class TestOutcome:
    """What testing gives.

    Attributes:
        people: found people by image id.
        results: the same in COCO's results format; on the main process only.
        scores: None where the data set's annotations are not public; the same on all processes.
        times: seconds a stage, over this process's photos.
    """

    __test__ = False  # not a test class, whatever pytest thinks of the name
    people: People
    results: list[dict[str, object]]
    scores: Scores | None
    times: StageTimes


def predict_split(
    network: PoseNetwork,
    cfg: CfgNode,
    schema: KeypointSchema,
    records: Sequence[ImageRecord],
    world: World,
    progress: bool = False,
    bad_input: BadInput | None = None,
) -> tuple[People, StageTimes]:
    """Return the people of every photo, on every process, each photo predicted by one process.

    What cannot be read is an error; with a tolerant ``bad_input`` nobody is found there, and
    it knows of all processes' photos afterwards.
    """
    bad_input = bad_input or BadInput()
    times = StageTimes()
    estimator = PoseEstimator(network.eval(), build_estimator_settings(cfg, schema))
    share = -(-len(records) // world.size)
    with tqdm(total=share, unit="photo", desc="test", disable=not (progress and world.is_main)) as bar:
        mine = predict_records(
            estimator,
            records,
            cfg.DATASET.INPUT_SIZE,
            cfg.TEST.IMAGES_PER_BATCH,
            cfg.TEST.WORKERS,
            world.rank,
            world.size,
            times,
            bar.update,
            bad_input,
        )
    people: People = {}
    for part, problems in gather((mine, bad_input.problems), world):
        people |= part
        bad_input.remember(problems)
    # the order of the annotation file, whatever the processes
    return {record.image_id: people[record.image_id] for record in records}, times


def run_test(
    network: PoseNetwork,
    cfg: CfgNode,
    schema: KeypointSchema,
    records: Sequence[ImageRecord],
    split: str,
    world: World,
    progress: bool = False,
    truth: GroundTruth | None = None,
    bad_input: BadInput | None = None,
) -> TestOutcome:
    """Predict a split and score it by its benchmark's rules.

    Args:
        network: in any mode; it is put in evaluation mode.
        cfg: its DATASET and TEST options apply.
        schema: the data set's joints.
        records: the split's photos.
        split: its name.
        world: this process; the main one scores for all.
        progress: whether to show a bar.
        truth: what `ground_truth_of` returns, for who tests often; None: it is read here.
        bad_input: what happens to photos that cannot be read; None: the config's choice for
            testing. The scores count them: their people are not found.
    """
    bad_input = bad_input or build_bad_input(cfg, training=False)
    people, times = predict_split(network, cfg, schema, records, world, progress, bad_input)
    results: list[dict[str, object]] = []

    def score() -> Scores | None:
        known = truth or ground_truth_of(cfg, schema, records, split)
        results.extend(poses_to_results(people, known.categories.result, cfg.TEST.MAX_DETECTIONS))
        return score_results(known, results, schema, cfg.TEST.ENGINE) if known.annotated else None

    scores = on_main(score, world)
    return TestOutcome(people, results, scores, times)


def ground_truth_of(cfg: CfgNode, schema: KeypointSchema, records: Sequence[ImageRecord], split: str) -> GroundTruth:
    """Read the annotated people of a split's records."""
    ids = [record.image_id for record in records] if cfg.DATASET.IMAGE_IDS else None
    return load_ground_truth(annotations_of(cfg, schema, split), schema, ids)


def write_outcome(outcome: TestOutcome, folder: Path, schema: KeypointSchema, split: str, name: str) -> Path:
    """Write results and scores into a folder; return the path of the results file, or of what its server takes."""
    path = folder / results_file_name(schema, split, name)
    if outcome.scores is None and schema.name == "coco":
        return write_submission(path, outcome.results, schema, outcome.people.keys())
    write_results(path, outcome.results)
    if outcome.scores:
        scores = json.dumps(outcome.scores.to_dict(), indent=2) + "\n"
        write_whole(folder / f"scores_{schema.name}_{split}.json", scores, "the scores")
    return path


def write_overlays(
    people: People, records: Sequence[ImageRecord], schema: KeypointSchema, folder: Path, count: int
) -> list[Path]:
    """Draw truth beside prediction for the best, the worst and the most crowded photos.

    Returns:
        The pictures' paths: ``best_1.jpg`` and so on.
    """
    quality = {r.image_id: _quality(r, people[r.image_id], schema) for r in records}
    scored = [r for r in records if quality[r.image_id] is not None]
    by_quality = sorted(scored, key=lambda r: quality[r.image_id] or 0.0)
    crowded = sorted(scored, key=lambda r: (-(r.crowd_index or 0.0), -len(r.keypoints)))
    chosen = {"best": by_quality[::-1][:count], "worst": by_quality[:count], "crowded": crowded[:count]}
    paths = []
    for kind, kind_records in chosen.items():
        for rank, record in enumerate(kind_records, 1):
            path = folder / f"{kind}_{rank}.jpg"
            label = f"found (OKS {quality[record.image_id]:.2f})"
            save_image(path, _overlay(record, people[record.image_id], schema, label))
            paths.append(path)
    return paths


def _quality(record: ImageRecord, poses: Sequence[Pose], schema: KeypointSchema) -> float | None:
    return image_quality(record.keypoints, box_areas(record.boxes), poses, np.asarray(schema.sigmas))


def _overlay(record: ImageRecord, poses: Sequence[Pose], schema: KeypointSchema, label: str) -> np.ndarray:
    image = read_photo(record)
    shown = likely_people(poses)
    return side_by_side(
        [draw_poses(image, record.keypoints, schema), draw_poses(image, shown, schema, min_score=SHOWN_JOINT)],
        [f"{record.path.name}: truth", label],
    )


def likely_people(poses: Sequence[Pose], share: float = 0.4, least: float = 0.1) -> list[Pose]:
    """Return the people worth showing: scored at least ``share`` of the photo's best and ``least``."""
    best = max((pose.score for pose in poses), default=0.0)
    return [pose for pose in poses if pose.score >= max(share * best, least)]


@dataclass(frozen=True)
class TestTask:
    """A network and what to test it on; `warnings` are what looks wrong with the annotations."""

    __test__ = False  # not a test class, whatever pytest thinks of the name
    network: PoseNetwork
    cfg: CfgNode
    schema: KeypointSchema
    records: list[ImageRecord]
    split: str
    weights: Path
    folder: Path
    bad_input: BadInput = field(default_factory=BadInput)
    warnings: tuple[str, ...] = ()


def prepare_test(
    cfg_path: str | None, weights: str | None, overrides: Sequence[str], split: str | None, world: World
) -> TestTask:
    """Load what ``tools/test.py`` was asked for.

    Args:
        cfg_path: config file, or None for the checkpoint's own config.
        weights: checkpoint, or None for the config's run's best (else final) one.
        overrides: ``[key, value, ...]``.
        split: of the data set, or None for the config's.
        world: this process; the network goes to its device.

    Raises:
        UserError: a file is missing or does not fit.
    """
    cfg = load_config(cfg_path, overrides) if cfg_path else None
    path = Path(weights) if weights else _weights_of_run(cfg)
    cfg = cfg or override(config_of(path), overrides)
    schema = schema_of(cfg)
    network = sketch_network(cfg, schema.num_joints)
    notes: list[str] = []
    load_network(network, path, schema, notes)
    if world.is_main and notes:
        print("\n".join(f"{path}: {note}" for note in notes), flush=True)
    network = network.to(world.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    split = split or cfg.DATASET.TEST
    if world.is_main:
        if not cfg_path:
            _check_rendered(cfg, schema, split, overrides[::2])
        render_missing(cfg, schema, {split})
    barrier(world)
    bad_input = build_bad_input(cfg, training=False)
    records = records_of(cfg, schema, split, bad_input)
    folder = Path(cfg.OUTPUT_DIR) / cfg.NAME / f"test_{split}"
    said = warnings(records, schema) + (unpaired_joints(schema) if cfg.TEST.FLIP else [])
    return TestTask(network, cfg, schema, records, split, path, folder, bad_input, tuple(said))


def _check_rendered(cfg: CfgNode, schema: KeypointSchema, split: str, given: Sequence[str]) -> None:
    """Raise UserError before a checkpoint from elsewhere could render scenes where, or more than, it should.

    Args:
        given: options that the user gave; the others are the checkpoint's.
    """
    annotations = annotations_of(cfg, schema, split)
    if not schema.synthetic or annotations.exists():
        return
    if cfg.DATASET.ROOT and "DATASET.ROOT" not in given:
        raise UserError(
            f"{annotations} is missing, and a checkpoint's own DATASET.ROOT is read from but "
            "not written to: give a folder, DATASET.ROOT '' for the schema's own, or the config with --cfg"
        )
    asked, most = flat(cfg), flat(default_config())
    for key in (f"SYNTHETIC.{name}" for name in ("WIDTH", "HEIGHT", "MAX_PEOPLE", f"{split.upper()}_SCENES")):
        if key not in given and key in most and asked[key] > most[key]:
            raise UserError(
                f"{annotations} is missing, and a checkpoint alone renders no more than the defaults: its {key} is "
                f"{asked[key]}, the default {most[key]}; give {key} yourself, or the config with --cfg"
            )


def _weights_of_run(cfg: CfgNode | None) -> Path:
    assert cfg is not None
    folder = Path(cfg.OUTPUT_DIR) / cfg.NAME
    for name in ("best.pth", "final.pth"):
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"{folder}: holds neither best.pth nor final.pth; train first, or give --weights")
