"""A collapse watch: it reads the figures of every step and says, once for each kind, what goes wrong and what to try.

Judged is the mean over a whole window of steps, so that one odd batch says nothing. Pure: no clock, no files.
"""

import math
from collections.abc import Mapping

WINDOW = 200  # steps: some minutes of training, and long enough that batches of 1 average out
# ADA holds discriminators at 80 % (its target of 0.6 for the mean sign, arXiv 2006.06676); at 98 % on both sides they
# have learnt their pictures by heart, and their gradient says nothing.
DISCRIMINATOR_WINS = 0.98
# Variance of drawn values in [-1, 1]. Portraits on white have 0.28 to 0.38, the flattest of 120 cartoons 0.03; an even
# area has 0, and 0.01 is a spread of a twentieth of the range.
FLAT = 0.01
# Mean distance of output and input in [0, 1]. A drawn pair differs by 0.10 to 0.25; JPEG compression alone by 0.014.
UNCHANGED = 0.02
# A loss that stands ten times above its own level for half a window: an odd batch does so for single steps.
EXPLOSION = 10.0
EXPLOSION_SHARE = 0.5
EXPLOSION_FLOOR = 0.1  # below it ten times nothing is nothing: the L1 and least-squares terms of a good run end there

# What to try, for each kind of collapse, in the options that a method has.
UNPAIRED = {
    "discriminator wins": "--ada on, more cartoons, or a lower --set learning_rate=...",
    "flat": "a lower --set learning_rate=... and a higher --set cycle=..., from the last good checkpoint",
    "unchanged": "a lower --set identity=... and a lower --set cycle=...",
    "explosion": "a lower --set learning_rate=..., from the last good checkpoint",
}
WITH_ADA = UNPAIRED | {
    "discriminator wins": "a quicker ADA (a lower --set ada_kimg=...), more cartoons, or a lower --set "
    "learning_rate=...",
}
PAIRED = {
    "flat": "a lower --set learning_rate=..., from the last good checkpoint",
    "unchanged": "to look into cartoon/, which seems to hold the photos once more",
    "explosion": "a lower --set learning_rate=..., from the last good checkpoint",
}


class Watch:
    """Fed every step; returns the advice that is due. tries: UNPAIRED, WITH_ADA or PAIRED.

    >>> watch = Watch(window=3)
    >>> said = [line for _ in range(6) for line in watch.step({}, change=0.001)]
    >>> len(said), said[0].split(":")[0]
    (1, 'the drawings are their photos, nearly unchanged')
    """

    def __init__(self, window: int = WINDOW, tries: Mapping[str, str] = UNPAIRED):
        self._window, self._tries = window, tries
        self._steps = 0
        self._sums: dict[str, list[float]] = {}  # figure -> [sum, count] in this window
        self._losses: dict[str, list[float]] = {}  # loss -> [sum, count, steps far above its level] in this window
        self._levels: dict[str, float] = {}  # loss -> its mean over the windows before, half of it the last one's
        self._said: list[str] = []

    def step(
        self,
        losses: Mapping[str, float],
        *,
        d_real_accuracy: float | None = None,
        d_fake_accuracy: float | None = None,
        output_variance: float | None = None,
        change: float | None = None,
    ) -> list[str]:
        """Take in one step and return what there is to say, mostly nothing; each kind is said once in a run.

        d_real_accuracy, d_fake_accuracy: share in [0, 1] of real cartoons, and of drawings, that the discriminators
        take for what they are. output_variance: of all values of the drawings, which lie in [-1, 1]. change: mean
        distance of drawing and photo, as a share of the range (metrics.change). What a preset has not is left out.
        """
        figures = {
            "d_real_accuracy": d_real_accuracy,
            "d_fake_accuracy": d_fake_accuracy,
            "output_variance": output_variance,
            "change": change,
        }
        for name, value in figures.items():
            if value is not None and math.isfinite(value):
                total = self._sums.setdefault(name, [0.0, 0])
                total[0] += value
                total[1] += 1
        for name, value in losses.items():
            self._take_loss(name, value)
        self._steps += 1
        if self._steps < self._window:
            return []
        advice = self._judge()
        self._steps, self._sums, self._losses = 0, {}, {}
        new = {kind: line for kind, line in advice.items() if kind not in self._said}
        self._said += new
        return list(new.values())

    def _take_loss(self, name: str, value: float) -> None:
        total = self._losses.setdefault(name, [0.0, 0, 0])
        level = self._levels.get(name)
        far = not math.isfinite(value) or (
            level is not None and abs(value) > EXPLOSION * max(abs(level), EXPLOSION_FLOOR)
        )
        total[2] += far
        if math.isfinite(value):
            total[0] += value
            total[1] += 1

    def _judge(self) -> dict[str, str]:
        means = {name: total / count for name, (total, count) in self._sums.items()}
        advice = {}
        real, fake = means.get("d_real_accuracy", 0.0), means.get("d_fake_accuracy", 0.0)
        if min(real, fake) > DISCRIMINATOR_WINS:
            advice["discriminator wins"] = (
                f"the discriminators win: over {self._window} steps they knew {real:.1%} of the cartoons and "
                f"{fake:.1%} of the drawings for what they are, and the generator learns nothing from that; try "
                f"{self._tries['discriminator wins']}"
            )
        if means.get("output_variance", 1.0) < FLAT:
            advice["flat"] = (
                f"the drawings are one even area: variance {means['output_variance']:.4f} over {self._window} steps; "
                f"try {self._tries['flat']}"
            )
        if means.get("change", 1.0) < UNCHANGED:
            advice["unchanged"] = (
                f"the drawings are their photos, nearly unchanged: they differ by {means['change']:.1%} of the range "
                f"over {self._window} steps; try {self._tries['unchanged']}"
            )
        exploded = [name for name, (_, _, far) in self._losses.items() if far >= EXPLOSION_SHARE * self._window]
        if exploded:
            advice["explosion"] = (
                f"a loss has exploded: {', '.join(sorted(exploded))} stood at {EXPLOSION:.0f} times its level for half "
                f"of {self._window} steps; try {self._tries['explosion']}"
            )
        for name, (total, count, _) in self._losses.items():
            if count and name not in exploded:
                mean = total / count
                self._levels[name] = (self._levels[name] + mean) / 2 if name in self._levels else mean
        return advice

    def state_dict(self) -> dict:
        """All that a resumed run needs to go on as if it had not stopped; plain values for JSON."""
        return {
            "steps": self._steps,
            "sums": {name: list(total) for name, total in self._sums.items()},
            "losses": {name: list(total) for name, total in self._losses.items()},
            "levels": dict(self._levels),
            "said": list(self._said),
        }

    def load_state_dict(self, state: dict) -> None:
        """Go on from a `state_dict`."""
        self._steps = state["steps"]
        self._sums = {name: list(total) for name, total in state["sums"].items()}
        self._losses = {name: list(total) for name, total in state["losses"].items()}
        self._levels, self._said = dict(state["levels"]), list(state["said"])
