"""Heatmap and embedding losses."""
