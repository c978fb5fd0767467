"""Stage 3: images are drawn from a trained network, in numbered shards."""
