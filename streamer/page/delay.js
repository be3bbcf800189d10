// The delay from the camera to the screen, worked out from time stamps.
//
// A frame keeps its 90 kHz time stamp on the whole way; on the way back the sender adds a number that it does not tell.
// That number is found by laying the stamps that the server says it sent over the stamps that were shown. When a stamp
// was taken follows from the frame that reached the server soonest ("lead"), less the browser's mean encoding time and
// half a round trip; the server's clock is compared with ours over the data channel.

const CLOCK = 90; // time stamp steps a millisecond
const KEEP_SENT = 200;
const KEEP_SHOWN = 12;
const KEEP_LEADS = 20; // reports of half a second: clocks drift apart by less than a millisecond in ten seconds
const MATCHES_NEEDED = 6;

export class DelayMeter {
  #clocks = []; // {trip, ahead}: round trip, and how far the server's clock is ahead of ours, ms
  #leads = [];
  #sent = [];
  #shown = [];
  #origin = null;
  #delays = [];
  #uplink = 0;

  /** Our clock when the ping left, the server's clock in between, our clock now; all ms. */
  clock(left, server, now) {
    const trip = now - left;
    this.#clocks = [...this.#clocks, { trip, ahead: server - (left + now) / 2 }].slice(-KEEP_LEADS);
  }

  /** Mean ms of encoding in the browser, and the round trip on the network. */
  uplink(encode, roundTrip) {
    this.#uplink = encode + roundTrip / 2;
  }

  statistics({ lead, timestamps }) {
    if (lead !== null) this.#leads = [...this.#leads, lead].slice(-KEEP_LEADS);
    this.#sent = [...this.#sent, ...timestamps].slice(-KEEP_SENT);
    if (this.#origin === null) this.#origin = this.#match();
  }

  /** A frame with this time stamp is on the screen at `now`. */
  shown(timestamp, now) {
    if (this.#origin === null) {
      this.#shown = [...this.#shown, timestamp].slice(-KEEP_SHOWN);
      return;
    }
    const best = this.#clocks.reduce((least, clock) => (clock.trip < least.trip ? clock : least), { trip: Infinity });
    if (!this.#leads.length || best.trip === Infinity) return;
    const stamp = ((timestamp - this.#origin) >>> 0) / CLOCK;
    const taken = stamp + Math.min(...this.#leads) - best.ahead - this.#uplink;
    this.#delays.push(now - taken);
  }

  /** Median delay in ms since the last call, or null. */
  take() {
    const delays = this.#delays.sort((a, b) => a - b);
    this.#delays = [];
    return delays.length ? delays[delays.length >> 1] : null;
  }

  /** The number between the server's stamps and those shown: the one that fits every frame shown, if it is alone. */
  #match() {
    // The newest frame shown may be missing in the server's last report.
    const shown = this.#shown.slice(0, -2);
    if (shown.length < MATCHES_NEEDED) return null;
    const votes = new Map();
    for (const stamp of shown) {
      for (const sent of this.#sent) {
        const origin = (stamp - sent) >>> 0;
        votes.set(origin, (votes.get(origin) ?? 0) + 1);
      }
    }
    const fitting = [...votes].filter(([, count]) => count === shown.length);
    return fitting.length === 1 ? fitting[0][0] : null;
  }
}
