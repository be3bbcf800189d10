// One connection to the server: offer, video both ways, and a data channel for settings, statistics and heartbeat.

import { Failure, connectionLost, notConnected, serverSilent } from "./sentences.js";

const CONNECT_WITHIN_MS = 10000;
const SILENCE_MS = 4000; // the server speaks twice a second
const GATHER_WITHIN_MS = 1000;
const MOST_BITS_A_SECOND = 2500000; // of the camera picture; more is not seen in a cartoon

export class Connection {
  /** `on.cartoon(stream)`, `on.statistics(message)`, `on.pong(message)`, `on.refused(sentence)`, `on.lost(failure)` */
  constructor(on) {
    this.on = on;
    this.peer = new RTCPeerConnection({ iceServers: [] });
    this.channel = this.peer.createDataChannel("livetoon");
    this.heardAt = performance.now();
  }

  /** Connect and send `stream`; resolves when the data channel is open, throws a Failure. */
  async open(stream) {
    const opened = this.#opened();
    opened.catch(() => {}); // awaited below, unless something fails before
    this.peer.addEventListener("track", (event) => {
      // Shown as soon as it is decoded: waiting smooths the movement, and a mirror must be quick.
      event.receiver.jitterBufferTarget = 0;
      this.on.cartoon(new MediaStream([event.track]));
    });
    const transceiver = this.peer.addTransceiver(stream.getVideoTracks()[0], {
      direction: "sendrecv",
      sendEncodings: [{ maxBitrate: MOST_BITS_A_SECOND }],
    });
    this.sender = transceiver.sender;
    await this.#keepResolution();
    await this.peer.setLocalDescription();
    await this.#gathered();
    await this.peer.setRemoteDescription({ type: "answer", sdp: await this.#answer() });
    await opened;
    this.#listen();
  }

  send(message) {
    if (this.channel.readyState === "open") this.channel.send(JSON.stringify(message));
  }

  /** Show the server another camera without a new connection. */
  replace(stream) {
    return this.sender?.replaceTrack(stream.getVideoTracks()[0]);
  }

  /** Send at most this many frames a second. */
  async limitFrames(most) {
    const parameters = this.sender.getParameters();
    for (const encoding of parameters.encodings) encoding.maxFramerate = most;
    // A browser that does not know the limit sends every frame.
    await this.sender.setParameters(parameters).catch(() => {});
  }

  /** Milliseconds from camera to network and from network to screen, as far as the browser counts them. */
  async timing() {
    const timing = { encode: 0, roundTrip: 0 };
    for (const report of (await this.peer.getStats()).values()) {
      if (report.type === "outbound-rtp" && report.framesEncoded) {
        timing.encode = (report.totalEncodeTime / report.framesEncoded) * 1000;
      }
      if (report.type === "candidate-pair" && report.nominated && report.currentRoundTripTime) {
        timing.roundTrip = report.currentRoundTripTime * 1000;
      }
    }
    return timing;
  }

  close() {
    this.closed = true;
    clearInterval(this.watch);
    this.peer.close();
  }

  #lose(failure) {
    if (this.closed) return;
    this.close();
    this.on.lost(failure);
  }

  async #keepResolution() {
    const parameters = this.sender.getParameters();
    parameters.degradationPreference = "maintain-resolution";
    // Older browsers refuse the word; they may send smaller pictures at first.
    await this.sender.setParameters(parameters).catch(() => {});
  }

  #gathered() {
    return new Promise((resolve) => {
      const check = () => this.peer.iceGatheringState === "complete" && resolve();
      this.peer.addEventListener("icegatheringstatechange", check);
      setTimeout(resolve, GATHER_WITHIN_MS);
      check();
    });
  }

  async #answer() {
    let response;
    try {
      response = await fetch("offer", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ type: "offer", sdp: this.peer.localDescription.sdp }),
        signal: AbortSignal.timeout(CONNECT_WITHIN_MS),
      });
    } catch {
      throw serverSilent();
    }
    const body = await response.json().catch(() => ({}));
    if (response.ok) return body.sdp;
    const full = response.status === 503;
    throw new Failure(full ? "Somebody is on already" : "The server refused",
      body.error ?? "Reload the page and start again.", { full });
  }

  #opened() {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(notConnected()), CONNECT_WITHIN_MS);
      this.channel.addEventListener("open", () => {
        clearTimeout(timer);
        resolve();
      });
      this.peer.addEventListener("connectionstatechange", () => {
        if (this.peer.connectionState === "failed") reject(notConnected());
      });
    });
  }

  #listen() {
    this.heardAt = performance.now();
    this.channel.addEventListener("message", (event) => {
      this.heardAt = performance.now();
      const message = JSON.parse(event.data);
      if (message.type === "stats") {
        // The answer is the heartbeat: it comes from a message, so a page in the background is not slowed down.
        this.send({ type: "ping", page: performance.now() });
        this.on.statistics(message);
      }
      if (message.type === "pong") this.on.pong(message);
      if (message.type === "refused") this.on.refused(message.sentence);
    });
    this.channel.addEventListener("close", () => this.#lose(connectionLost()));
    this.peer.addEventListener("connectionstatechange", () => {
      if (this.peer.connectionState === "failed") this.#lose(connectionLost());
    });
    this.watch = setInterval(() => {
      if (performance.now() - this.heardAt > SILENCE_MS) this.#lose(connectionLost());
    }, 500);
  }
}
