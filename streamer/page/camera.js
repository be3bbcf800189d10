// The camera: open it, list the others, change its size.

import { cameraFailure, insecure } from "./sentences.js";

const FRAMES_A_SECOND = 30;

/** A stream of the camera with this id ("" is the usual one) near `width` x `height`; throws a Failure. */
export async function openCamera(id, width, height) {
  if (!window.isSecureContext || !navigator.mediaDevices?.getUserMedia) throw insecure();
  const video = { ...sizeOf(width, height), frameRate: { ideal: FRAMES_A_SECOND, max: FRAMES_A_SECOND } };
  if (id) video.deviceId = { exact: id };
  try {
    return await navigator.mediaDevices.getUserMedia({ video });
  } catch (error) {
    throw cameraFailure(error);
  }
}

/** Another size for a camera that runs; a camera that cannot keeps its size. */
export async function resizeCamera(stream, width, height) {
  await stream?.getVideoTracks()[0]?.applyConstraints({
    ...sizeOf(width, height), frameRate: { ideal: FRAMES_A_SECOND, max: FRAMES_A_SECOND },
  });
}

/** [{id, label}] of all cameras; labels are empty until the camera was allowed once. */
export async function listCameras() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return devices.filter((device) => device.kind === "videoinput")
    .map((device, at) => ({ id: device.deviceId, label: device.label || `Camera ${at + 1}` }));
}

export function closeCamera(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}

function sizeOf(width, height) {
  return { width: { ideal: width }, height: { ideal: height } };
}
