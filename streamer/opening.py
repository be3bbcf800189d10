"""From a model's name to pipelines: what the server and `convert` open before they begin."""

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine import manifest
from engine.bundle_manifest import open_bundle
from engine.from_run import playable
from engine.runner import Runner
from faces import detectors, finders, weights
from faces.groups import RULES, Rule
from faces.looks import Looker
from faces.matte import Matte
from faces.public_crop import LIVETOON
from livetoon.errors import UsageError
from streamer.fallback import open_lasting
from streamer.media import Process
from streamer.pipeline import Pipeline, Settings
from streamer.styles import Styles

log = logging.getLogger("livetoon.server")

WARM_UP_CALLS = 3
TIMED_CALLS = 5
ON_WHITE = ("photo2cartoon",)  # networks that learn from people before white and draw no alpha


@dataclass(frozen=True)
class Chosen:
    """What is opened: the model and how it is run, as open_runner takes them, and the folder of the face models."""

    model: str | os.PathLike
    backend: str
    precision: str
    faces: Path = weights.FOLDER


def chosen(bundle: Path | None, model: str, backend: str, precision: str) -> Chosen:
    """What `bundle` brings, or `model` itself without one. ModelError for a bundle that is not whole."""
    if bundle is None:
        return Chosen(model, backend, precision)
    opened = open_bundle(bundle)
    log.info("bundle %s: livetoon %s for %s", bundle, opened.manifest.livetoon, opened.manifest.platform)
    return Chosen(*opened.opening(backend, precision), opened.faces)


def open_runners(model: str | os.PathLike, backend: str = "auto", precision: str = "auto") -> dict[str, Runner]:
    """Group -> runner for every group of `model`, the basic one first; all of the same checkpoint where it is a run.

    Those on a graphics card go on by the processor when it fails (`streamer.fallback`). ModelError for files that are
    missing or altered, EngineError or UsageError for a backend that cannot be had.
    """
    folder = manifest.find(playable(model))
    groups = manifest.read(folder).groups
    return {group: open_lasting(folder, group, backend, precision) for group in groups}


def open_styles(opened: Sequence[Chosen]) -> dict[str, dict[str, Runner]]:
    """Name of the model -> its runners by group, in the same order. UsageError for two models of one name, and what
    `open_runners` raises."""
    styles: dict[str, dict[str, Runner]] = {}
    for each in opened:
        runners = open_runners(each.model, each.backend, each.precision)
        name = next(iter(runners.values())).spec.name
        if name in styles:
            raise UsageError(f"--model {each.model}: a style is called {name} already; rename one of them")
        styles[name] = runners
    return styles


def pipeline_of(
    runners: Mapping[str, Runner],
    max_faces: int,
    faces: Path = weights.FOLDER,
    detector: str = detectors.SHIPPED,
    crop: str = LIVETOON,
    rules: Mapping[str, Rule] = RULES,
) -> Pipeline:
    """A pipeline that crops as large and before such a background as the runners' model wants.

    faces: where its face models lie; detector: its wide search, as `finders.opened` takes it; crop, rules: as
    `Pipeline` takes them.
    """
    return _pipeline(runners, max_faces, _networks(detector, faces), crop, rules)


def _networks(detector: str, faces: Path) -> tuple[finders.Finders, Looker, Matte]:
    return finders.opened(detector, faces), Looker(faces), Matte(faces)


def _pipeline(
    runners: Mapping[str, Runner],
    max_faces: int,
    networks: tuple[finders.Finders, Looker, Matte],
    crop: str = LIVETOON,
    rules: Mapping[str, Rule] = RULES,
) -> Pipeline:
    spec = next(iter(runners.values())).spec
    white = not spec.alpha and spec.network in ON_WHITE
    found, looker, matte = networks
    return Pipeline(
        runners, list(runners), max_faces, found, looker, spec.size, matte, white, crop, rules, spec.own_lines
    )


def process_maker(
    styles: Mapping[str, Mapping[str, Runner]], max_faces: int, faces: Path, detector: str, *how: Any
) -> Callable[[], Process]:
    """Makes what draws one visitor: a pipeline for each of `styles`, as `pipeline_of` does of the same arguments. All
    share the runners, and those of one visitor its face networks."""

    def make() -> Process:
        networks = _networks(detector, faces)
        process = Styles({name: _pipeline(runners, max_faces, networks, *how) for name, runners in styles.items()})
        # The search compiles itself for lying and for upright frames: 0.3 s each that nobody should wait for.
        for shape in ((480, 640, 3), (640, 480, 3)):
            process(np.zeros(shape, np.uint8), 0.0, Settings())
        process.reset()
        return process

    return make


def generator_ms(runner: Runner) -> float:
    """Median milliseconds of one crop, after a warm-up."""
    crops = np.zeros((1, runner.spec.size, runner.spec.size, 3), np.uint8)
    times: list[float] = []
    for _ in range(WARM_UP_CALLS + TIMED_CALLS):
        began = time.perf_counter()
        runner(crops)
        times.append((time.perf_counter() - began) * 1000)
    return float(np.median(times[WARM_UP_CALLS:]))


def places(generator: float, cores: int, own_browser: bool = True) -> int:
    """How many visitors `cores` carry at 20 pictures a second, when one crop takes `generator` ms; at least one.

    A visitor costs the generator, 8 ms for faces and paste, 10 ms for video and network, 20 times a second. 15 % of
    the machine stay free, or the delay grows; a browser on this machine takes half a core.
    """
    carried = cores * 850 - (500 if own_browser else 0)
    return max(1, int(carried / (20 * (generator + 18))))


def defaults_of(settings: Any) -> dict[str, Any]:
    """What a page must show at first."""
    return asdict(settings)
