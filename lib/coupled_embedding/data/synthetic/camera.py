"""A perspective camera over a flat ground (y = 0)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NEAREST = 0.25  # metres; nothing nearer than this is projected faithfully


@dataclass(frozen=True)
class Camera:
    """A pinhole camera at (0, height, 0) that looks towards -z.

    height: metres above the ground. pitch: radians downwards. roll: radians. focal: pixels.
    width, image_height: pixels of the picture.
    """

    height: float
    pitch: float
    roll: float
    focal: float
    width: int
    image_height: int

    @property
    def axes(self) -> np.ndarray:
        """(3, 3): rows are the camera's right, down and forward in world axes."""
        cp, sp = np.cos(self.pitch), np.sin(self.pitch)
        right, down, ahead = np.array([1.0, 0, 0]), np.array([0, -cp, sp]), np.array([0, -sp, -cp])
        cr, sr = np.cos(self.roll), np.sin(self.roll)
        return np.stack([cr * right + sr * down, -sr * right + cr * down, ahead]).astype(np.float32)

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World points (..., 3) to pixels (..., 2), pixel centres at integers, and depths (...) in metres."""
        seen = (points - np.array([0, self.height, 0], np.float32)) @ self.axes.T
        depth = seen[..., 2]
        scale = self.focal / np.maximum(depth, NEAREST)
        centre = np.array([(self.width - 1) / 2, (self.image_height - 1) / 2], np.float32)
        return seen[..., :2] * scale[..., None] + centre, depth

    def rays(self) -> np.ndarray:
        """Viewing directions in world axes, (image_height, width, 3), forward component 1 in camera axes."""
        x = (np.arange(self.width, dtype=np.float32) - (self.width - 1) / 2) / self.focal
        y = (np.arange(self.image_height, dtype=np.float32) - (self.image_height - 1) / 2) / self.focal
        axes = self.axes
        return x[None, :, None] * axes[0] + y[:, None, None] * axes[1] + axes[2]

    def horizon(self) -> float:
        """Row of the horizon at the centre of the picture, in pixels (may lie outside)."""
        return (self.image_height - 1) / 2 - self.focal * float(np.tan(self.pitch))

    def ground_below(self, row: float, depth: float) -> float:
        """World height at which a point `depth` metres ahead along -z appears on `row` (roll ignored)."""
        slope = (row - (self.image_height - 1) / 2) / self.focal
        return self.height - depth * float(np.tan(self.pitch + np.arctan(slope)))
