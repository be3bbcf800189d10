// The page: its states, its controls and its figures.

import { closeCamera, listCameras, openCamera, resizeCamera } from "./camera.js";
import { Connection } from "./connection.js";
import { DelayMeter } from "./delay.js";
import { Pace } from "./pace.js";
import { People, spoken } from "./people.js";
import { Failure, cameraGone, hints, noPicture } from "./sentences.js";

const byId = (id) => document.getElementById(id);
const page = document.body;
const cartoon = byId("cartoon");
const cameraView = byId("camera-view");

const RETRY_MS = [500, 1000, 2000, 4000]; // then every 4 s
const FULL_RETRY_MS = 3000;
const NOTICE_MS = 5000;
const FIRST_PICTURE_MS = 6000; // a first cartoon takes one or two seconds
const HINT_AFTER = 3; // reports of half a second without a face: a turned head is no news
const STILL_AFTER = 4; // reports without a picture from the camera

const STATUS = {
  idle: "Ready", starting: "Starting", running: "Live", waiting: "Waiting", failed: "Stopped",
};

// styles: the groups of each; own_lines: those whose drawings may take the person's own features
let about = { styles: {}, own_lines: [], max_faces: 4, defaults: {} };
const people = new People(byId("people").firstElementChild, sendSettings);
let stream = null;
let connection = null;
let meter = new DelayMeter();
let pace = new Pace();
let attempt = 0; // a new number makes everything that an older start still awaits void
let faces = null; // in the last picture that was drawn
let faceless = 0;
let still = 0;
let lastReport = null;
let notice = { text: "", until: 0 };
let told = ""; // the server's last notice

function show(state, title = "", text = "") {
  page.dataset.state = state;
  byId("status").textContent = STATUS[state];
  byId("waiting-title").textContent = title;
  byId("waiting-text").textContent = text;
  for (const id of ["snapshot", "fullscreen", "stop"]) byId(id).disabled = state !== "running";
  if (state !== "running") {
    byId("hint").textContent = "";
    for (const id of ["fps", "delay", "faces"]) byId(id).textContent = "–";
  }
}

/** End what runs, and say why. */
function giveUp(error) {
  ++attempt;
  hangUp();
  releaseCamera();
  const known = error instanceof Failure;
  byId("failure-title").textContent = known ? error.title : "Something went wrong";
  byId("failure-text").textContent = known ? error.text : `${error.message}. Reload the page.`;
  show("failed");
  byId("again").focus();
}

/* Starting, stopping, starting again */

async function start(retries = 0) {
  const mine = ++attempt;
  const stale = () => mine !== attempt;
  show("starting", stream ? "Connecting…" : "Asking for the camera…");
  try {
    if (!stream?.active) {
      const opened = await openCamera(byId("camera").value, ...wantedSize());
      if (stale()) return closeCamera(opened);
      useCamera(opened);
    }
    show("starting", "Connecting…");
    await connect(stale);
  } catch (error) {
    if (stale()) return;
    if (error.full || error.retry) retryLater(error, retries);
    else giveUp(error);
  }
}

async function connect(stale) {
  meter = new DelayMeter();
  pace = new Pace();
  lastReport = faces = null;
  faceless = still = 0;
  connection = new Connection({
    cartoon: (incoming) => { cartoon.srcObject = incoming; },
    statistics: (message) => !stale() && report(message),
    pong: ({ page: left, server }) => meter.clock(left, server, performance.now()),
    refused: (sentence) => { notice = { text: sentence, until: performance.now() + NOTICE_MS }; },
    lost: (failure) => !stale() && retryLater(failure, 0),
  });
  await connection.open(stream);
  if (stale()) return;
  sendSettings();
  watchCartoon(stale);
}

function retryLater(failure, retries) {
  hangUp();
  const mine = ++attempt;
  const wait = failure.full ? FULL_RETRY_MS : RETRY_MS[Math.min(retries, RETRY_MS.length - 1)];
  show("waiting", failure.title, failure.text);
  setTimeout(() => mine === attempt && start(retries + 1), wait);
}

function stop() {
  ++attempt;
  hangUp();
  releaseCamera();
  if (document.fullscreenElement) document.exitFullscreen();
  show("idle");
  byId("start").focus();
}

function hangUp() {
  connection?.close();
  connection = null;
  cartoon.srcObject = null;
  people.clear();
}

/* The camera */

function wantedSize() {
  return byId("size").value.split("x").map(Number);
}

function useCamera(opened) {
  closeCamera(stream);
  stream = opened;
  cameraView.srcObject = opened;
  const track = opened.getVideoTracks()[0];
  track.contentHint = "motion";
  track.addEventListener("ended", () => {
    if (stream === opened) giveUp(cameraGone());
  });
  fillCameras();
}

function releaseCamera() {
  closeCamera(stream);
  stream = null;
  cameraView.srcObject = null;
}

async function fillCameras() {
  const select = byId("camera");
  const used = stream?.getVideoTracks()[0]?.getSettings().deviceId ?? select.value;
  const options = (await listCameras()).filter(({ id }) => id).map(({ id, label }) => new Option(label, id));
  select.replaceChildren(...(options.length ? options : [new Option("The usual camera", "")]));
  if (options.some(({ value }) => value === used)) select.value = used;
}

async function changeCamera() {
  if (!stream) return;
  const mine = attempt;
  // Many phones open one camera at a time.
  closeCamera(stream);
  try {
    const opened = await openCamera(byId("camera").value, ...wantedSize());
    if (mine !== attempt) return closeCamera(opened);
    await connection?.replace(opened);
    useCamera(opened);
  } catch (error) {
    if (mine === attempt) giveUp(error);
  }
}

/* What the server says */

function report(message) {
  meter.statistics(message);
  const limit = pace.report(message);
  if (limit !== null) connection?.limitFrames(limit);
  if (lastReport) {
    const seconds = (message.server - lastReport.server) / 1000;
    byId("fps").textContent = ((message.sent - lastReport.sent) / seconds).toFixed(0);
  }
  // Two seconds of it: single frames come and go.
  if (!lastReport || message.server - lastReport.server > 2000) lastReport = message;
  connection?.timing().then(({ encode, roundTrip }) => meter.uplink(encode, roundTrip));
  const delay = meter.take();
  byId("delay").textContent = delay === null ? "–" : `${Math.max(0, Math.round(delay))} ms`;
  faces = message.faces ?? faces;
  byId("faces").textContent = faces ?? "–";
  if (message.faces !== null) {
    faceless = message.faces ? 0 : faceless + 1;
    people.show(message.tracks, byId("mirror").checked);
  }
  still = message.received ? 0 : still + 1;
  if (message.trouble && page.dataset.state === "starting") show("starting", "No cartoon yet", message.trouble);
  if (message.notice && message.notice !== told) {
    notice = { text: message.notice, until: performance.now() + 4 * NOTICE_MS };
  }
  told = message.notice || told;
  byId("hint").textContent = message.trouble ?? (performance.now() < notice.until ? notice.text : hintNow());
  fillStages(message.stages);
}

function hintNow() {
  if (still >= STILL_AFTER) return hints.still;
  if (faceless >= HINT_AFTER) return hints.none;
  return faces > about.max_faces ? hints.crowd(faces, about.max_faces) : "";
}

function fillStages(stages) {
  const body = byId("stages");
  const most = Math.max(1, ...Object.values(stages));
  body.replaceChildren(...Object.entries(stages).map(([name, milliseconds]) => {
    const row = document.createElement("tr");
    const head = Object.assign(document.createElement("th"), { scope: "row", textContent: name });
    const bar = document.createElement("td");
    const fill = document.createElement("div");
    fill.style.width = `${(100 * milliseconds) / most}%`;
    bar.append(fill);
    const figure = Object.assign(document.createElement("td"), { textContent: `${milliseconds.toFixed(1)} ms` });
    row.append(head, bar, figure);
    return row;
  }));
}

function watchCartoon(stale) {
  // A tab in the background plays too, but is told of no frame.
  if (!cartoon.paused && cartoon.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA) show("running");
  else cartoon.addEventListener("playing", () => !stale() && show("running"), { once: true });
  setTimeout(() => {
    if (!stale() && page.dataset.state === "starting") show("starting", noPicture.title, noPicture.text);
  }, FIRST_PICTURE_MS);
  const onFrame = (now, { rtpTimestamp }) => {
    if (stale()) return;
    if (rtpTimestamp !== undefined) meter.shown(rtpTimestamp, performance.now());
    cartoon.requestVideoFrameCallback(onFrame);
  };
  cartoon.requestVideoFrameCallback?.(onFrame);
}

/* Controls */

const checked = (name) => document.querySelector(`input[name=${name}]:checked`)?.value;

function sendSettings() {
  const style = checked("style") ?? "";
  const group = checked("group") ?? "auto";
  const strength = Number(byId("strength").value);
  const tone = Number(byId("tone").value);
  const detail = Number(byId("detail").value);
  const background = checked("background") ?? "camera";
  const colour = byId("background-colour").value;
  byId("background-colour-field").hidden = background !== "plain";
  byId("strength-value").textContent = `${Math.round(strength * 100)} %`;
  byId("tone-value").textContent = `${Math.round(tone * 100)} %`;
  byId("detail-value").textContent = `${Math.round(detail * 100)} %`;
  const faces = people.choices;
  connection?.send({ type: "settings", style, group, strength, tone, detail, faces,
    background, background_colour: colour });
}

function chips(name, values, chosen) {
  byId(`${name}-chips`).replaceChildren(...values.map((value) => {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"),
      { type: "radio", name, value, checked: value === chosen });
    const text = Object.assign(document.createElement("span"), { textContent: spoken(value) });
    label.append(input, text);
    return label;
  }));
}

function fillStyles() {
  const styles = Object.keys(about.styles);
  byId("styles").hidden = styles.length < 2;
  chips("style", styles, styles[0]);
  fillGroups(about.defaults.group);
}

/** The groups of the chosen style; each style follows the faces anew, so nothing chosen for one of them is kept. */
function fillGroups(wanted) {
  const groups = about.styles[checked("style")] ?? [];
  people.clear();
  people.groups = groups;
  byId("groups").hidden = groups.length < 2;
  byId("own-features").hidden = !about.own_lines.includes(checked("style"));
  chips("group", ["auto", ...groups], groups.includes(wanted) ? wanted : "auto");
}

function snapshot() {
  const canvas = document.createElement("canvas");
  canvas.width = cartoon.videoWidth;
  canvas.height = cartoon.videoHeight;
  const drawing = canvas.getContext("2d");
  if (byId("mirror").checked) {
    drawing.translate(canvas.width, 0);
    drawing.scale(-1, 1);
  }
  drawing.drawImage(cartoon, 0, 0);
  canvas.toBlob((blob) => {
    const time = new Date().toISOString().slice(0, 19).replace("T", " ").replaceAll(":", ".");
    const link = Object.assign(document.createElement("a"), {
      href: URL.createObjectURL(blob), download: `livetoon ${time}.png`,
    });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    byId("status").textContent = "Snapshot saved";
    setTimeout(() => { byId("status").textContent = STATUS[page.dataset.state]; }, 2000);
  }, "image/png");
}

function toggleFullscreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else if (byId("stage").requestFullscreen) byId("stage").requestFullscreen();
  else cartoon.webkitEnterFullscreen?.();
}

byId("start").addEventListener("click", () => start());
byId("again").addEventListener("click", () => start());
byId("cancel").addEventListener("click", stop);
byId("stop").addEventListener("click", stop);
byId("snapshot").addEventListener("click", snapshot);
byId("fullscreen").addEventListener("click", toggleFullscreen);
byId("settings").addEventListener("submit", (event) => event.preventDefault());
byId("styles").addEventListener("change", () => {
  fillGroups(checked("group"));
  sendSettings();
});
byId("groups").addEventListener("change", sendSettings);
byId("backgrounds").addEventListener("input", sendSettings);
byId("strength").addEventListener("input", sendSettings);
byId("tone").addEventListener("input", sendSettings);
byId("detail").addEventListener("input", sendSettings);
byId("camera").addEventListener("change", changeCamera);
byId("size").addEventListener("change", () => resizeCamera(stream, ...wantedSize()).catch(() => {}));
byId("mirror").addEventListener("change", (event) => byId("stage").classList.toggle("mirrored", event.target.checked));
byId("preview").addEventListener("change", (event) => byId("stage").classList.toggle("alone", !event.target.checked));
cartoon.addEventListener("resize", () => {
  if (!cartoon.videoWidth) return;
  byId("stage").style.aspectRatio = `${cartoon.videoWidth} / ${cartoon.videoHeight}`;
  byId("people").style.setProperty("--ratio", cartoon.videoWidth / cartoon.videoHeight);
});
navigator.mediaDevices?.addEventListener("devicechange", fillCameras);
// Gives the place back at once; a page that comes back from the browser's cache starts anew.
window.addEventListener("pagehide", stop);

byId("stage").classList.add("mirrored");
show("idle");
fetch("about").then((response) => response.json()).then((answer) => { about = answer; }).catch(() => {}).finally(() => {
  byId("strength").value = about.defaults.strength ?? 1;
  byId("tone").value = about.defaults.tone ?? 0;
  byId("detail").value = about.defaults.detail ?? 0;
  byId("background-colour").value = about.defaults.background_colour ?? "#c3d2d6";
  for (const input of document.querySelectorAll("input[name=background]"))
    input.checked = input.value === (about.defaults.background ?? "camera");
  fillStyles();
  sendSettings();
  fillCameras();
});
