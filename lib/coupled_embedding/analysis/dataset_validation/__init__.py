"""Checks of a whole data set before days are spent on it."""

from coupled_embedding.analysis.dataset_validation.check import SplitCheck, check_split
from coupled_embedding.analysis.dataset_validation.plots import plot_statistics
from coupled_embedding.analysis.dataset_validation.report import as_json, as_text

__all__ = ["SplitCheck", "as_json", "as_text", "check_split", "plot_statistics"]
