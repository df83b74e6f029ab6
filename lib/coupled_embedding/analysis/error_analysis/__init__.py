"""What limits a network: tags in crowds, detection vs. grouping, kinds of errors; as JSON and as a page of plots."""

from coupled_embedding.analysis.error_analysis.page import write_analysis
from coupled_embedding.analysis.error_analysis.summary import ErrorAnalysis, analyse_errors

__all__ = ["ErrorAnalysis", "analyse_errors", "write_analysis"]
