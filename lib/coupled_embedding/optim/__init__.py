"""Optimizers, learning-rate schedule and the moving average of weights."""
