"""A synthetic crowd with exact labels: scenes from a seed, clips with identities, CrowdPose-style dataset folders."""

from synthetic_crowd.clip_writer import write_clips
from synthetic_crowd.clips import ClipFrame, render_clip
from synthetic_crowd.overlay import draw_labels
from synthetic_crowd.scene import Scene, render_scene
from synthetic_crowd.settings import CrowdSettings
from synthetic_crowd.writer import GENERATOR_VERSION, write_dataset

__all__ = [
    "GENERATOR_VERSION",
    "ClipFrame",
    "CrowdSettings",
    "Scene",
    "draw_labels",
    "render_clip",
    "render_scene",
    "write_clips",
    "write_dataset",
]
