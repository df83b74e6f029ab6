"""Drawings for papers and debugging: BGR uint8 images in, new BGR uint8 images out."""

from coupled_embedding.visualize.fields import TagColors, draw_tags, heatmap_grid, heatmap_overlay
from coupled_embedding.visualize.palette import person_color
from coupled_embedding.visualize.panels import contact_sheet, save_figure, save_image, side_by_side
from coupled_embedding.visualize.people import MIN_DRAWN_SCORE, draw_poses, filter_poses

__all__ = [
    "MIN_DRAWN_SCORE",
    "TagColors",
    "contact_sheet",
    "draw_poses",
    "draw_tags",
    "filter_poses",
    "heatmap_grid",
    "heatmap_overlay",
    "person_color",
    "save_figure",
    "save_image",
    "side_by_side",
]
