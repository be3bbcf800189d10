"""Learning a cartoon style: networks, losses, the training step, runs and their evaluation."""
