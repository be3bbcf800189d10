"""Every error that livetoon raises on purpose.

    LivetoonError
    ├── UsageError    an option or an argument is wrong: nothing was started (exit code 2)
    ├── DataError     a picture, clip or data folder cannot be used
    ├── ModelError    a model file is missing, altered or of another kind
    ├── EngineError   a backend is missing or cannot run the model
    ├── CameraError   the page's video cannot be had or read
    └── TrainingError a run cannot start, go on or be resumed

The message is one sentence for the person at the keyboard: what was expected, what came, what to do.
"""


class LivetoonError(Exception):
    """Base of all of them: `except LivetoonError` catches what livetoon can explain."""


class UsageError(LivetoonError):
    """An option or an argument is wrong; nothing was started."""


class DataError(LivetoonError):
    """A picture, clip or data folder cannot be used."""


class ModelError(LivetoonError):
    """A model file is missing, altered or of another kind."""


class EngineError(LivetoonError):
    """A backend is missing or cannot run the model."""


class CameraError(LivetoonError):
    """The page's video cannot be had or read."""


class TrainingError(LivetoonError):
    """A run cannot start, go on or be resumed."""
