// What image files may be before a browser decodes them: what Python refuses is refused (unetres_edge.images).

import { ImageError } from "./errors.js";

export const MAX_PIXELS = 89_000_000;
const AS_FILES = "save each frame as its own file";
const PNG = [0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10];

const text = (data, at, length) => String.fromCharCode(...data.subarray(at, at + length));
const viewOf = (data) => new DataView(data.buffer, data.byteOffset, data.byteLength);

/**
 * Refuse a file that no decoder of a browser gives as Python does.
 * @param {Uint8Array} data the file
 * @param {string} file how errors name it
 */
export function checkFile(data, file) {
  if (!data.length) throw new ImageError("the file is empty", { file, fix: "replace or remove the file" });
  try {
    if (PNG.every((byte, i) => data[i] === byte)) checkPng(data);
    else if (data[0] === 0xff && data[1] === 0xd8) checkJpeg(data);
    else if (text(data, 0, 4) === "RIFF" && text(data, 8, 4) === "WEBP") checkWebp(data);
    else if (text(data, 0, 4) === "GIF8") checkGif(data);
    else if (text(data, 0, 2) !== "BM") throw new ImageError("cannot decode: not an image of a known format", { fix: "save it as PNG or TIFF" });
  } catch (error) {
    if (error instanceof RangeError) throw new ImageError("cannot decode: the file is cut off", { file, fix: "replace or remove the file" });
    throw Object.assign(error, { file });
  }
}

/** @param {number} width @param {number} height */
export function checkSize(width, height) {
  if (width * height > MAX_PIXELS) {
    throw new ImageError("too many pixels", { expected: `at most ${MAX_PIXELS}`, found: `${width} x ${height}` });
  }
}

function refuseFrames(frames) {
  if (frames > 1) throw new ImageError("more than one frame", { expected: 1, found: frames, fix: AS_FILES });
}

function refuseTurned(exif) {
  const turned = orientation(exif);
  if (turned > 1) {
    throw new ImageError("the image is turned by EXIF, which not every browser heeds in this format", {
      found: `orientation ${turned}`, fix: "save it upright, or use `unetres-edge predict`",
    });
  }
}

/** The orientation in EXIF, 1 to 8; 1 where it says none. */
function orientation(exif) {
  const start = text(exif, 0, 6) === "Exif\0\0" ? 6 : 0;
  const data = exif.subarray(start);
  if (data.length < 8) return 1;
  const little = data[0] === 0x49;
  const view = viewOf(data);
  try {
    const at = view.getUint32(4, little);
    for (let i = 0; i < view.getUint16(at, little); i++) {
      const entry = at + 2 + 12 * i;
      if (view.getUint16(entry, little) === 0x0112) return view.getUint16(entry + 8, little);
    }
  } catch {
    // EXIF that is damaged turns nothing, in Python neither
  }
  return 1;
}

function checkPng(data) {
  const view = viewOf(data);
  checkSize(view.getUint32(16), view.getUint32(20));
  if (data[24] === 16) throw new ImageError("a browser would cut this 16-bit PNG to 8 bits", { fix: "save it as TIFF, or with 8 bits" });
  let [frames, own] = [0, false];
  for (let at = 8; at + 8 <= data.length; at += 12 + view.getUint32(at)) {
    const kind = text(data, at + 4, 4);
    if (kind === "acTL") frames = view.getUint32(at + 8);
    if (kind === "fcTL") own = true; // the first picture is one of the frames
    if (kind === "eXIf") refuseTurned(data.subarray(at + 8, at + 8 + view.getUint32(at)));
    if (kind === "IDAT" && frames) refuseFrames(frames + (own ? 0 : 1));
    if (kind === "IEND") break;
  }
}

function checkJpeg(data) {
  const view = viewOf(data);
  for (let at = 2; at + 4 <= data.length;) {
    if (data[at] !== 0xff) { at += 1; continue; }
    const marker = data[at + 1];
    if (marker === 0xff) { at += 1; continue; }
    if (marker === 0 || marker === 1 || (marker >= 0xd0 && marker <= 0xd8)) { at += 2; continue; }
    if (marker === 0xd9 || marker === 0xda) return;
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      checkSize(view.getUint16(at + 7), view.getUint16(at + 5));
      if (data[at + 9] === 4) throw new ImageError("image mode is not supported", { expected: "grey or RGB", found: "CMYK", fix: "convert to RGB" });
      return;
    }
    at += 2 + view.getUint16(at + 2);
  }
}

function checkWebp(data) {
  const view = viewOf(data);
  let frames = 0;
  for (let at = 12; at + 8 <= data.length;) {
    const [kind, size] = [text(data, at, 4), view.getUint32(at + 4, true)];
    if (kind === "ANMF") frames += 1;
    if (kind === "EXIF") refuseTurned(data.subarray(at + 8, at + 8 + size));
    at += 8 + size + (size & 1);
  }
  refuseFrames(frames);
}

function checkGif(data) {
  const view = viewOf(data);
  const table = (flags) => (flags & 0x80 ? 3 << ((flags & 7) + 1) : 0);
  checkSize(view.getUint16(6, true), view.getUint16(8, true));
  let frames = 0;
  let at = 13 + table(data[10]);
  const skip = () => {
    while (data[at]) at += data[at] + 1;
    at += 1;
  };
  while (at < data.length && data[at] !== 0x3b) {
    if (data[at] === 0x2c) {
      frames += 1;
      const [x, y, width, height] = [1, 3, 5, 7].map((offset) => view.getUint16(at + offset, true));
      if (frames === 1 && (x || y || width !== view.getUint16(6, true) || height !== view.getUint16(8, true))) {
        throw new ImageError("GIF frame does not cover the image", { fix: "save it as PNG" });
      }
      at += 11 + table(data[at + 9]);
    } else {
      at += 2;
    }
    skip();
  }
  refuseFrames(frames);
}
