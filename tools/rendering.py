"""Before a command calls the library: find config and weights, render what is missing of a synthetic data set."""

import os
from collections.abc import Sequence
from pathlib import Path

from yacs.config import CfgNode

from coupled_embedding.builders import annotations_of, build_schema, config_of, run_folder
from coupled_embedding.config import default_config, flat, load_config, override
from coupled_embedding.data.coco import dataset_root
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.networks.model_file import find_model
from coupled_embedding.utils.errors import CheckpointError, ConfigError, DatasetError, UserError
from synthetic_crowd import CrowdSettings, holds_layouts, write_dataset


def render_missing(cfg: CfgNode, splits: set[str]) -> None:
    """Render those splits of a synthetic data set that are missing; other data sets are left alone.

    So are splits in the layouts of an annotation file, which tools/make_synthetic.py renders.

    Raises:
        DatasetError: a split exists, but with other settings than the config's, or it is missing next to layouts.
    """
    schema, node = build_schema(cfg), cfg.SYNTHETIC
    if not schema.synthetic:
        return
    counts = {"train": node.TRAIN_SCENES, "val": node.VAL_SCENES, "test": node.TEST_SCENES}
    crowd_index = node.CROWD_INDEX if node.CROWD_INDEX >= 0 else None
    settings = CrowdSettings(node.WIDTH, node.HEIGHT, node.MIN_PEOPLE, node.MAX_PEOPLE, crowd_index)
    for split in sorted(splits & set(schema.splits)):
        if split not in counts:
            raise ConfigError(f"the synthetic crowd has the splits {', '.join(counts)}, not '{split}'")
        path = annotations_of(cfg, schema, split)
        if holds_layouts(path):
            continue
        if not path.exists():
            _check_no_layouts(path, cfg, schema)
            print(f"rendering {counts[split]} scenes of the synthetic crowd's {split} split ...", flush=True)
        root = dataset_root(schema, cfg.DATASET.ROOT)
        write_dataset(root, split, settings, node.SEED, counts[split], workers=os.cpu_count() or 1)


def _check_no_layouts(missing: Path, cfg: CfgNode, schema: KeypointSchema) -> None:
    """Raise DatasetError if another split of the folder holds layouts: generated scenes beside them mislead."""
    for other in schema.splits:
        if holds_layouts(path := annotations_of(cfg, schema, other)):
            raise DatasetError(
                f"{missing} is missing, and {path} holds layouts of an annotation file: render this split with "
                "tools/make_synthetic.py --layouts too, choose another one, or none (DATASET.VAL '')"
            )


def find_test(config: str | None, weights: str | None, overrides: Sequence[str], split: str) -> tuple[CfgNode, Path]:
    """Return the config of a test and the weights to test.

    Args:
        config: file; None: the checkpoint's own config.
        weights: a file, a run's folder or the name of a shipped model; None: the best checkpoint of the config's run,
            else its final one.
        overrides: ``[key, value, ...]``.
        split: empty: DATASET.TEST.

    Raises:
        UserError: a file is missing or does not fit.
    """
    if config:
        cfg = load_config(config, overrides)
        path = find_model(weights) if weights else _weights_of_run(run_folder(cfg))
    else:
        path = find_model(weights or "")
        cfg = override(config_of(path), overrides)
        _check_rendered(cfg, split or cfg.DATASET.TEST, overrides[::2])
    return cfg, path


def _weights_of_run(folder: Path) -> Path:
    for name in ("best.pth", "final.pth"):
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"{folder}: holds neither best.pth nor final.pth; train first, or give --weights")


def _check_rendered(cfg: CfgNode, split: str, chosen: Sequence[str]) -> None:
    """Raise UserError before a checkpoint from elsewhere could render scenes where, or more than, it should.

    Args:
        cfg: a checkpoint's.
        split: to be tested.
        chosen: options that the user set; the others are the checkpoint's.
    """
    schema = build_schema(cfg)
    if not schema.synthetic or (annotations := annotations_of(cfg, schema, split)).exists():
        return
    if cfg.DATASET.ROOT and "DATASET.ROOT" not in chosen:
        raise UserError(
            f"{annotations} is missing, and a checkpoint's own DATASET.ROOT is read from but "
            "not written to: give a folder, DATASET.ROOT '' for the schema's own, or the config with --cfg"
        )
    wanted, limits = flat(cfg), flat(default_config())
    for key in (f"SYNTHETIC.{name}" for name in ("WIDTH", "HEIGHT", "MAX_PEOPLE", f"{split.upper()}_SCENES")):
        if key not in chosen and key in limits and wanted[key] > limits[key]:
            raise UserError(
                f"{annotations} is missing, and a checkpoint alone renders no more than the defaults: its {key} is "
                f"{wanted[key]}, the default {limits[key]}; give {key} yourself, or the config with --cfg"
            )
