"""What limits a network: tags in crowds, detection vs. grouping, kinds of errors; as JSON and as a page of plots."""

from coupled_embedding.analysis.error_analysis.page import write_analysis
from coupled_embedding.analysis.error_analysis.summary import ErrorAnalysis, analyze_errors

__all__ = ["ErrorAnalysis", "analyze_errors", "write_analysis"]
