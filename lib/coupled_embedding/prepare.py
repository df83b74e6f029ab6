"""The data sets of a config: schema, photos, and the synthetic crowd rendered when missing."""

import os
from dataclasses import replace
from pathlib import Path

from yacs.config import CfgNode

from coupled_embedding.data.coco import annotation_file, dataset_root, load_records
from coupled_embedding.data.io.data_errors import BadInput
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import KeypointSchema, load_schema
from coupled_embedding.utils.errors import ConfigError
from synthetic_crowd import CrowdSettings, write_dataset


def schema_of(cfg: CfgNode) -> KeypointSchema:
    """Read the schema that a config names; DATASET.CATEGORIES and DATASET.ORIENTATION go before its own."""
    schema = load_schema(cfg.DATASET.SCHEMA)
    chosen = tuple(cfg.DATASET.CATEGORIES) or schema.categories
    return replace(schema, categories=chosen, orientation=cfg.DATASET.ORIENTATION or schema.orientation)


def records_of(
    cfg: CfgNode, schema: KeypointSchema, split: str, bad_input: BadInput | None = None
) -> list[ImageRecord]:
    """Read the photos of a split of the config's data set; without ``bad_input`` broken entries are errors."""
    return load_records(schema, split, cfg.DATASET.ROOT, cfg.DATASET.IMAGE_IDS, bad_input)


def annotations_of(cfg: CfgNode, schema: KeypointSchema, split: str) -> Path:
    """Return the annotation file of a split of the config's data set."""
    return annotation_file(schema, split, cfg.DATASET.ROOT)


def render_missing(cfg: CfgNode, schema: KeypointSchema, splits: set[str]) -> None:
    """Render those splits of a synthetic data set that are not there yet; others are left alone.

    Raises:
        DatasetError: a split is there, but with other settings than the config's.
    """
    if not schema.synthetic:
        return
    node = cfg.SYNTHETIC
    counts = {"train": node.TRAIN_SCENES, "val": node.VAL_SCENES, "test": node.TEST_SCENES}
    crowd_index = node.CROWD_INDEX if node.CROWD_INDEX >= 0 else None
    settings = CrowdSettings(node.WIDTH, node.HEIGHT, node.MIN_PEOPLE, node.MAX_PEOPLE, crowd_index)
    for split in sorted(splits & set(schema.splits)):
        if split not in counts:
            raise ConfigError(f"the synthetic crowd has the splits {', '.join(counts)}, not '{split}'")
        if not annotation_file(schema, split, cfg.DATASET.ROOT).exists():
            print(f"rendering {counts[split]} scenes of the synthetic crowd's {split} split ...", flush=True)
        root = dataset_root(schema, cfg.DATASET.ROOT)
        write_dataset(root, split, settings, node.SEED, counts[split], workers=os.cpu_count() or 1)
