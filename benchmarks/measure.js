// Runs in livetoon's page before the page's own scripts: reads the painted numbers of the camera and of the cartoon,
// and compares every decoded face with the raw one. `reference` is set by benchmarks/measure.py.
//
// Frames are read from the decoder's memory (VideoFrame.copyTo of a small rectangle), not drawn onto a canvas: that
// would cost the browser more than showing them.

const measured = {
  clicked: null, firstShown: null, camera: [], shown: [], decoded: [], statistics: [], sizes: new Set(),
};
window.livetoonMeasured = measured;

const { bits, checkBits, columns, blocksAcross } = reference;
const even = (value) => Math.floor(value / 2) * 2;

// The luma plane of a rectangle; the rectangle's sides are made even, as the decoder's memory wants them.
async function luma(frame, left, top, width, height) {
  const rect = { x: even(left), y: even(top), width: Math.max(2, even(width)), height: Math.max(2, even(height)) };
  rect.x = Math.max(0, Math.min(rect.x, even(frame.codedWidth - rect.width)));
  rect.y = Math.max(0, Math.min(rect.y, even(frame.codedHeight - rect.height)));
  const data = new Uint8Array(frame.allocationSize({ rect }));
  const [plane] = await frame.copyTo(data, { rect });
  return { data, offset: plane.offset, stride: plane.stride, width: rect.width, height: rect.height };
}

async function number(frame) {
  const side = frame.codedWidth / blocksAcross;
  const { data, offset, stride } = await luma(frame, 0, 0, columns * side, ((bits + checkBits) / columns) * side);
  let value = 0, check = 0;
  for (let place = 0; place < bits + checkBits; place++) {
    const y = Math.floor((Math.floor(place / columns) + 0.5) * side);
    const x = Math.floor(((place % columns) + 0.5) * side);
    const at = offset + y * stride + x;
    const bit = (data[at] + data[at - 1] + data[at - stride] + data[at - stride - 1]) / 4 > 126 ? 1 : 0;
    if (place < bits) value = (value << 1) | bit;
    else check = (check << 1) | bit;
  }
  const sum = [0, 4, 8, 12].reduce((total, shift) => total + ((value >> shift) & 15), 0);
  return ((sum * 7 + 5) & 15) === check ? value : null;
}

// Mean absolute difference, in grey levels, of a face in `frame` and the raw face of the same number.
async function difference(frame, person, value) {
  const last = person.boxes.length - 1;
  const step = last ? value % (2 * last) : 0;
  const index = step <= last ? step : 2 * last - step;
  const [left, top, right, bottom] = person.boxes[index];
  const scale = frame.codedWidth / reference.width;
  const face = await luma(frame, left * scale, top * scale, (right - left) * scale, (bottom - top) * scale);
  const cells = reference.grid;
  let total = 0;
  for (let row = 0; row < cells; row++) {
    for (let column = 0; column < cells; column++) {
      const y0 = Math.floor((row * face.height) / cells), x0 = Math.floor((column * face.width) / cells);
      const y1 = Math.max(y0 + 1, Math.floor(((row + 1) * face.height) / cells));
      const x1 = Math.max(x0 + 1, Math.floor(((column + 1) * face.width) / cells));
      let sum = 0;
      for (let y = y0; y < y1; y++) for (let x = x0; x < x1; x++) sum += face.data[face.offset + y * face.stride + x];
      const grey = ((sum / ((y1 - y0) * (x1 - x0)) - 16) * 255) / 219;
      total += Math.abs(grey - person.grids[index][row * cells + column]);
    }
  }
  return total / (cells * cells);
}

function watch(video, list, first) {
  const onFrame = async () => {
    const now = performance.now();
    first?.(now);
    video.requestVideoFrameCallback(onFrame);
    const frame = new VideoFrame(video);
    try {
      list.push([now, await number(frame)]);
    } finally {
      frame.close();
    }
  };
  video.requestVideoFrameCallback(onFrame);
}

// Every frame that was decoded, also those that the screen was too slow to show.
async function judge(track) {
  const reader = new MediaStreamTrackProcessor({ track, maxBufferSize: 4 }).readable.getReader();
  for (;;) {
    const { value: frame, done } = await reader.read();
    if (done) return;
    try {
      measured.sizes.add(`${frame.codedWidth}x${frame.codedHeight}`);
      const value = await number(frame);
      const differences = [];
      for (const person of reference.people) {
        differences.push(value === null ? null : await difference(frame, person, value));
      }
      measured.decoded.push([performance.now(), value, ...differences]);
    } finally {
      frame.close();
    }
  }
}

const Stock = window.RTCPeerConnection;
window.RTCPeerConnection = class extends Stock {
  constructor(...options) {
    super(...options);
    window.livetoonPeer = this;
    this.addEventListener("track", ({ track }) => judge(track.clone()));
  }

  createDataChannel(...options) {
    const channel = super.createDataChannel(...options);
    channel.addEventListener("message", ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "stats") measured.statistics.push([performance.now(), message]);
    });
    return channel;
  }
};

document.addEventListener("DOMContentLoaded", () => {
  watch(document.getElementById("camera-view"), measured.camera);
  watch(document.getElementById("cartoon"), measured.shown, (now) => { measured.firstShown ??= now; });
  document.getElementById("start").addEventListener("click", () => { measured.clicked = performance.now(); }, true);
});
