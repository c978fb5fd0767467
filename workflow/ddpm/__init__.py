"""Denoising Diffusion Probabilistic Models (Ho, Jain, Abbeel 2020), reproduced end to end.

The five stages are the sub-packages `data`, `training`, `sampling`, `evaluation` and `report`; the method
itself is `unet` and `diffusion`. `python -m ddpm --help` lists what can be run by hand.
"""

__version__ = "0.1.0"
