"""Learning: from a recipe and a manifest to a bundle. Needs the `train` extra."""
