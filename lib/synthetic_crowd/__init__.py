"""A synthetic crowd with exact labels: scenes from a seed or in real layouts, clips with identities, data sets."""

from synthetic_crowd.annotated import Layout, read_layouts
from synthetic_crowd.clip_writer import write_clips
from synthetic_crowd.clips import ClipFrame, render_clip
from synthetic_crowd.layout_writer import holds_layouts, render_layout, write_layouts
from synthetic_crowd.overlay import draw_labels
from synthetic_crowd.scene import Scene, render_scene
from synthetic_crowd.settings import CrowdSettings
from synthetic_crowd.writer import GENERATOR_VERSION, write_dataset

__all__ = [
    "GENERATOR_VERSION",
    "ClipFrame",
    "CrowdSettings",
    "Layout",
    "Scene",
    "draw_labels",
    "holds_layouts",
    "read_layouts",
    "render_clip",
    "render_layout",
    "render_scene",
    "write_clips",
    "write_dataset",
    "write_layouts",
]
