// A photo from the camera of a desktop: the page shows what the camera sees. Phones use their own camera app.

import { X } from "lucide";

import { h, iconButton } from "./dom.ts";
import { stamp } from "./intake.ts";

/** Opens the camera and calls back with each photo. */
export async function openCamera(onPhoto: (file: File) => void): Promise<void> {
  const video = h("video", { autoplay: true, playsinline: true, muted: true, "aria-label": "What the camera sees" });
  const status = h("p", { class: "camera-status", role: "status" }, "Starting the camera …");
  const shutter = h("button", { type: "button", class: "shutter", "aria-label": "Take a photo", disabled: true });
  const dialog = h("dialog", { class: "camera", "aria-label": "Camera" }, video, status, shutter, iconButton("Close", X, () => dialog.close(), "icon-button dark"));
  let stream: MediaStream | undefined;
  dialog.addEventListener("close", () => {
    for (const track of stream?.getTracks() ?? []) track.stop();
    dialog.remove();
  });
  document.body.append(dialog);
  dialog.showModal();
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1920 } }, audio: false });
  } catch (error) {
    const isDenied = error instanceof DOMException && error.name === "NotAllowedError";
    status.textContent = isDenied ? "The browser does not let this page use the camera. You can allow it beside the address bar." : "No camera was found.";
    return;
  }
  if (!dialog.open) {
    for (const track of stream.getTracks()) track.stop();
    return;
  }
  video.srcObject = stream;
  await video.play();
  status.textContent = "";
  shutter.disabled = false;
  shutter.focus();
  shutter.addEventListener("click", () => {
    const canvas = h("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d")?.drawImage(video, 0, 0);
    canvas.toBlob(
      (blob) => {
        if (blob) onPhoto(new File([blob], `photo ${stamp(new Date())}.jpg`, { type: "image/jpeg" }));
        dialog.close();
      },
      "image/jpeg",
      0.92,
    );
  });
}
