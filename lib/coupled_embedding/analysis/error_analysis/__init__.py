"""What limits a network: its tags in crowds, finding against grouping, kinds of errors; as figures and a page."""

from coupled_embedding.analysis.error_analysis.observe import PhotoFindings, observe
from coupled_embedding.analysis.error_analysis.page import page
from coupled_embedding.analysis.error_analysis.run import diagnose_task, write_diagnosis
from coupled_embedding.analysis.error_analysis.summary import Diagnosis, diagnose

__all__ = ["Diagnosis", "PhotoFindings", "diagnose", "diagnose_task", "observe", "page", "write_diagnosis"]
