"""Training and evaluation: the loop, and small collaborators beside it."""
