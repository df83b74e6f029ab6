"""Experiments as YACS configs: documented defaults, `_BASE_` files, checked overrides."""

from coupled_embedding.config.defaults import default_config, flat
from coupled_embedding.config.load import config_from_dict, config_to_dict, config_to_yaml, load_config, override

__all__ = ["config_from_dict", "config_to_dict", "config_to_yaml", "default_config", "flat", "load_config", "override"]
