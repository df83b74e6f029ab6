"""From annotation files and images to batches: schema, records, transforms, targets, loader."""
