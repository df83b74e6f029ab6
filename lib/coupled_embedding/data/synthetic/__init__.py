"""A synthetic crowd with exact labels: scenes from a seed, and CrowdPose-style dataset folders."""

from coupled_embedding.data.synthetic.labels import crowd_index
from coupled_embedding.data.synthetic.overlay import draw_labels
from coupled_embedding.data.synthetic.scene import Scene, render_scene
from coupled_embedding.data.synthetic.settings import CrowdSettings
from coupled_embedding.data.synthetic.writer import GENERATOR_VERSION, write_dataset

__all__ = ["GENERATOR_VERSION", "CrowdSettings", "Scene", "crowd_index", "draw_labels", "render_scene", "write_dataset"]
