"""Stage 4: features of samples and of real images, scores, likelihood, and what each number was computed from."""
