"""Bottom-up multi-person pose estimation with coupled embeddings (CE, ECCV 2022)."""

__version__ = "0.2.0"
