"""How a device computes the method: precision, compilation, normalisation, several processes, random numbers."""
