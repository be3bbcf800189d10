"""One file per figure that the README shows; results by machine in `results/`."""
