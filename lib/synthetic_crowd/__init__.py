"""A synthetic crowd with exact labels: scenes from a seed, and CrowdPose-style dataset folders."""

from synthetic_crowd.overlay import draw_labels
from synthetic_crowd.scene import Scene, render_scene
from synthetic_crowd.settings import CrowdSettings
from synthetic_crowd.writer import GENERATOR_VERSION, write_dataset

__all__ = ["GENERATOR_VERSION", "CrowdSettings", "Scene", "draw_labels", "render_scene", "write_dataset"]
