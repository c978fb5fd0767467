"""Stage 2: a network is trained, resumably, and its averaged weights are written."""
