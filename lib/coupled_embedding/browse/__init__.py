"""A page that walks through a data set: images, annotated people, predictions and their errors (docs/browse.md)."""
