"""The only package besides config/ that reads options: from a config to the objects that the library is made of."""

from coupled_embedding.builders.inference import (
    LoadedModel,
    assemble_eval_job,
    build_eval_job,
    build_predictor,
    config_of,
    load_model,
    load_predictor,
    save_model,
    saved_config,
)
from coupled_embedding.builders.info import (
    RunInfo,
    changed_options,
    check_same_training,
    describe,
    load_info,
    trained_options,
)
from coupled_embedding.builders.networks import (
    build_criterion,
    build_model,
    build_network,
    build_optimizer,
    build_schedule,
)
from coupled_embedding.builders.parts import (
    annotations_of,
    build_augmentation,
    build_decode_options,
    build_grouping_options,
    build_pipeline_options,
    build_policy,
    build_records,
    build_schema,
    build_train_dataset,
    run_folder,
)
from coupled_embedding.builders.suppression import check_not_held_out
from coupled_embedding.builders.training import assemble_train_run, build_train_run, start_train_run

__all__ = [
    "LoadedModel",
    "RunInfo",
    "annotations_of",
    "assemble_eval_job",
    "assemble_train_run",
    "build_augmentation",
    "build_criterion",
    "build_decode_options",
    "build_eval_job",
    "build_grouping_options",
    "build_model",
    "build_network",
    "build_optimizer",
    "build_pipeline_options",
    "build_policy",
    "build_predictor",
    "build_records",
    "build_schedule",
    "build_schema",
    "build_train_dataset",
    "build_train_run",
    "changed_options",
    "check_not_held_out",
    "check_same_training",
    "config_of",
    "describe",
    "load_info",
    "load_model",
    "load_predictor",
    "run_folder",
    "save_model",
    "saved_config",
    "start_train_run",
    "trained_options",
]
