"""What keeps jobs apart and alive: locks, GPUs, SLURM, signals, and the words for what went wrong."""
