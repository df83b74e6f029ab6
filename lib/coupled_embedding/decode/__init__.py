"""From heatmaps and tags to poses: `reference` states the algorithm, `fast` is what makes it fast."""
