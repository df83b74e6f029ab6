"""Training and evaluation: the loop, and its small collaborators."""
