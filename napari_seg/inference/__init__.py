"""Image → mask: axes, normalisation, tiles, devices, prediction."""
