"""A perspective camera over a flat ground (y = 0)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

NEAREST = 0.25  # meters; nothing nearer than this is projected faithfully


@dataclass(frozen=True)
class Camera:
    """A pinhole camera at (0, height, 0) that looks towards -z.

    height: meters above the ground. pitch: radians downwards. roll: radians. focal: pixels.
    width, image_height: pixels of the image.
    """

    height: float
    pitch: float
    roll: float
    focal: float
    width: int
    image_height: int

    @cached_property
    def axes(self) -> np.ndarray:
        """(3, 3): rows are the camera's right, down and forward in world axes."""
        cp, sp = np.cos(self.pitch), np.sin(self.pitch)
        right, down, ahead = np.array([1.0, 0, 0]), np.array([0, -cp, sp]), np.array([0, -sp, -cp])
        cr, sr = np.cos(self.roll), np.sin(self.roll)
        return np.stack([cr * right + sr * down, -sr * right + cr * down, ahead]).astype(np.float32)

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World points (..., 3) to pixels (..., 2), pixel centers at integers, and depths (...) in meters."""
        seen = (points - np.array([0, self.height, 0], np.float32)) @ self.axes.T
        depth = seen[..., 2]
        scale = self.focal / np.maximum(depth, NEAREST)
        center = np.array([(self.width - 1) / 2, (self.image_height - 1) / 2], np.float32)
        return seen[..., :2] * scale[..., None] + center, depth

    def rays(self, top: int = 0) -> np.ndarray:
        """Viewing directions in world axes of the rows from `top` down, (3, image_height - top, width) float32.

        Their component along the camera's view is 1.
        """
        x = (np.arange(self.width, dtype=np.float32) - np.float32((self.width - 1) / 2)) / np.float32(self.focal)
        y = (
            np.arange(top, self.image_height, dtype=np.float32) - np.float32((self.image_height - 1) / 2)
        ) / np.float32(self.focal)
        axes = self.axes
        return np.stack([x * axes[0, k] + (y * axes[1, k] + axes[2, k])[:, None] for k in range(3)])

    def horizon(self) -> float:
        """Row of the horizon at the center of the image, in pixels (may lie outside)."""
        return (self.image_height - 1) / 2 - self.focal * float(np.tan(self.pitch))
