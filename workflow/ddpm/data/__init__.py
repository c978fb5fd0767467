"""Stage 1: a data set becomes uint8 images in [N, H, W, C] and a card that says where they come from."""
