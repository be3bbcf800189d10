"""From a trained generator to the fastest correct runner on the machine at hand.

`engine.runner.open_runner` is the door to use, `python -m engine.export` the way in.
"""

import livetoon  # noqa: F401 -- before what it keeps silent
