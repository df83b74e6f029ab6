"""Scores of poses (results files, AP by COCO's and CrowdPose's rules, PCK, similarity); suppression of equal poses."""

from coupled_embedding.data.people import box_areas
from coupled_embedding.evaluation.box_files import read_boxes
from coupled_embedding.evaluation.fit_nms import Fit, fit_nms, suppress_results
from coupled_embedding.evaluation.ground_truth import GroundTruth, load_ground_truth
from coupled_embedding.evaluation.keypoint_ap import (
    ap_of_groups,
    evaluate_keypoints,
    filter_detections,
    score_results,
    why_undefined,
)
from coupled_embedding.evaluation.oks import image_quality, oks_matrix
from coupled_embedding.evaluation.pose_nms import OksNMS, ParametricNMS, PoseNMS
from coupled_embedding.evaluation.pose_nms_presets import build_pose_nms, chosen_parameters, pose_nms_text
from coupled_embedding.evaluation.results import poses_to_results, read_results, results_file_name, write_results
from coupled_embedding.evaluation.scores import Scores
from coupled_embedding.evaluation.submission import check_submission, write_submission

__all__ = [
    "Fit",
    "GroundTruth",
    "OksNMS",
    "ParametricNMS",
    "PoseNMS",
    "Scores",
    "ap_of_groups",
    "box_areas",
    "build_pose_nms",
    "check_submission",
    "chosen_parameters",
    "evaluate_keypoints",
    "filter_detections",
    "fit_nms",
    "image_quality",
    "load_ground_truth",
    "oks_matrix",
    "pose_nms_text",
    "poses_to_results",
    "read_boxes",
    "read_results",
    "results_file_name",
    "score_results",
    "suppress_results",
    "why_undefined",
    "write_results",
    "write_submission",
]
