"""Files that appear whole, checkpoints, the cache of finished chunks, downloads."""
