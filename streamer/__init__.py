"""Live video: a camera comes in over WebRTC, the cartoon goes back; and the same for files (`convert`)."""

import livetoon  # noqa: F401 -- before what it keeps silent
