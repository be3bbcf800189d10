"""Learning a cartoon style: networks, losses, the training step, runs and their evaluation."""

import livetoon  # noqa: F401 -- before what it keeps silent
