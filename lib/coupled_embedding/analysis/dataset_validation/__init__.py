"""Validation of a whole data set before days are spent on it."""

from coupled_embedding.analysis.dataset_validation.plots import plot_statistics
from coupled_embedding.analysis.dataset_validation.report import as_json, as_text
from coupled_embedding.analysis.dataset_validation.validate import SplitValidation, validate_split

__all__ = ["SplitValidation", "as_json", "as_text", "plot_statistics", "validate_split"]
