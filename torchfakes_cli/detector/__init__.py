"""Face crops to calibrated probabilities: networks, preprocessing, checkpoints, scoring."""
