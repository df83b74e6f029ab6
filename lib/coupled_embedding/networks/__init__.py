"""Backbones, heads, and the reading of their weights."""
