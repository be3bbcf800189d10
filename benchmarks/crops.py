"""Real crops to measure accuracy on: those that the engine proves itself on."""

from engine.proof import astronaut_crops

__all__ = ["astronaut_crops"]
