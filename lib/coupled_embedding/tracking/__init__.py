"""Identities over the frames of a video: OKS × tag similarity over a window of frames, Hungarian assignment."""

from coupled_embedding.tracking.tags import mean_tags_of
from coupled_embedding.tracking.tracker import Tracker

__all__ = ["Tracker", "mean_tags_of"]
