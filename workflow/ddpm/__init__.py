"""Denoising Diffusion Probabilistic Models (Ho, Jain, Abbeel 2020), reproduced end to end.

The five stages are the sub-packages `data`, `training`, `sampling`, `evaluation` and `report`; the method
itself is `unet` and `diffusion`. `python -m ddpm --help` lists what can be run by hand. In a notebook, `load` reads a
trained model (docs/python.md).
"""

__version__ = "0.1.0"


def load(path, device="auto"):
    """A trained model: `.sample(n, seed)`, `.bits_per_dim(images)` and `.card`.

    Args:
        path: a weights file (model.safetensors), or the folder of an experiment that holds one.
        device: a device of torch by name ("cpu", "cuda", "cuda:1"); auto: CUDA where there is a GPU.

    Returns:
        A `ddpm.evaluation.loaded.LoadedModel`.

    Raises:
        UserError: there are no such weights, or they are damaged, or there is no such device.
    """
    from ddpm.evaluation.loaded import LoadedModel  # loads torch, which `import ddpm` alone does not

    return LoadedModel.read(path, device)
