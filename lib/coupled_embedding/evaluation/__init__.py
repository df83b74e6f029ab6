"""Scores of poses: results files, COCO's and CrowdPose's AP, PCK of single people, similarity per image."""

from coupled_embedding.data.people import box_areas
from coupled_embedding.evaluation.box_files import read_boxes
from coupled_embedding.evaluation.ground_truth import GroundTruth, load_ground_truth
from coupled_embedding.evaluation.keypoint_ap import (
    ap_of_groups,
    evaluate_keypoints,
    filter_detections,
    score_results,
    why_undefined,
)
from coupled_embedding.evaluation.mpii_ap import group_records, mpii_groups
from coupled_embedding.evaluation.oks import image_quality, oks_matrix
from coupled_embedding.evaluation.results import poses_to_results, read_results, results_file_name, write_results
from coupled_embedding.evaluation.scores import Scores
from coupled_embedding.evaluation.submission import check_submission, write_submission

__all__ = [
    "GroundTruth",
    "Scores",
    "ap_of_groups",
    "box_areas",
    "check_submission",
    "evaluate_keypoints",
    "filter_detections",
    "group_records",
    "image_quality",
    "load_ground_truth",
    "mpii_groups",
    "oks_matrix",
    "poses_to_results",
    "read_boxes",
    "read_results",
    "results_file_name",
    "score_results",
    "why_undefined",
    "write_results",
    "write_submission",
]
