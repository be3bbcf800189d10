// How many frames a second the camera's video has: a little more than the server draws.
//
// A frame that nobody draws still costs both sides its coding, and on one machine that is taken from the drawing.

const MOST = 30;
const LEAST = 8;
const EVERY_S = 2;
const HEADROOM = 1.15; // with the 2 below: a server that draws all it gets is soon given more
const EXTRA = 2;

export class Pace {
  #since = null;
  #limit = MOST;

  /** The new limit in frames a second, or null when it stays; `message` is one of the server's reports. */
  report(message) {
    this.#since ??= message;
    const seconds = (message.server - this.#since.server) / 1000;
    if (seconds < EVERY_S) return null;
    const drawn = (message.sent - this.#since.sent) / seconds;
    this.#since = message;
    const wanted = Math.max(LEAST, Math.min(MOST, Math.round(drawn * HEADROOM + EXTRA)));
    if (wanted === this.#limit) return null;
    this.#limit = wanted;
    return wanted;
  }
}
