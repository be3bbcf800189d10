"""Several models as the styles of one visitor: the page goes from one to another without connecting anew."""

from collections.abc import Mapping

import numpy as np

from livetoon.errors import UsageError
from streamer.pipeline import Pipeline, Result, Settings


class Styles:
    """A pipeline for each style, by its name; the first one draws where the settings name none.

    One of them draws at a time, so all may share their face networks. A style begins with nobody known, as a new video
    does: a face that it met before may be another one by now.
    """

    def __init__(self, pipelines: Mapping[str, Pipeline]):
        self._pipelines = dict(pipelines)
        self._shown = next(iter(self._pipelines))

    def reset(self) -> None:
        """Forget every face, as before a new video."""
        for pipeline in self._pipelines.values():
            pipeline.reset()

    def __call__(self, frame: np.ndarray, t: float, settings: Settings) -> Result:
        """As `Pipeline.process`, in the style of `settings`; UsageError for one that is not here."""
        style = settings.style or next(iter(self._pipelines))
        if style not in self._pipelines:
            raise UsageError(f"style {style!r} is not open; there are {', '.join(self._pipelines)}")
        if style != self._shown:
            self._pipelines[self._shown].reset()
            self._shown = style
        return self._pipelines[style].process(frame, t, settings)
