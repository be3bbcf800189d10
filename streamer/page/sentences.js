// Every way it can fail, as a title and a sentence that says what to do.

export class Failure extends Error {
  /** `retry`: try again by itself; `full`: the server has no free place. */
  constructor(title, text, { retry = false, full = false } = {}) {
    super(text);
    Object.assign(this, { title, text, retry, full });
  }
}

export function cameraFailure(error) {
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return new Failure("The camera was refused",
        "Allow the camera for this page (the sign beside the address), then press Try again.");
    case "NotFoundError":
    case "OverconstrainedError":
      return new Failure("No camera was found", "Plug a camera in or switch it on, then press Try again.");
    case "NotReadableError":
    case "AbortError":
      return new Failure("The camera is in use",
        "Another program or tab holds it, or it is switched off. Close that program, then press Try again.");
    default:
      return new Failure("The camera does not start",
        `The browser says: ${error.message || error.name}. Choose another camera, then press Try again.`);
  }
}

export const insecure = () => new Failure("The camera needs a safe address",
  location.protocol === "http:"
    ? `Browsers give the camera only to https pages and to this computer itself. Open http://localhost:${location.port} ` +
      "where livetoon runs, or start it with --self-signed and open its https address."
    : "This browser gives no camera to this page. Open it in a current Chrome, Edge, Firefox or Safari.");

export const cameraGone = () => new Failure("The camera went away",
  "It was unplugged or taken by another program. Plug it in again, then press Try again.");

export const serverSilent = () => new Failure("The server does not answer",
  "Is livetoon still running? This page tries again by itself.", { retry: true });

export const connectionLost = () => new Failure("The connection was lost",
  "This page connects again by itself.", { retry: true });

export const notConnected = () => new Failure("No connection came about",
  "The video found no way to the server. On one network this is mostly a firewall that blocks UDP: allow it for " +
  "livetoon, or start the server with --ice and a TURN server.");

export const noPicture = {
  title: "Still waiting for the first picture",
  text: "Is the camera covered, or in use by another program? Choose another one, or press Cancel and start again.",
};

export const hints = {
  still: "The camera sends no pictures: is it covered, asleep or used by another program?",
  none: "No face in view: come closer, look at the camera or switch on a light.",
  crowd: (faces, limit) => `${faces} faces, and livetoon draws ${limit}: the others stay covered.`,
};
