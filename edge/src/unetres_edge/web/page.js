// The page: an image or the webcam in, an overlay, areas and files out. The model runs in a worker.

import { findBackground } from "./background.js";
import { WorkerSegmenter } from "./client.js";
import { FileSystemError, ImageError, UnetresError } from "./errors.js";
import { checkFile, checkSize } from "./files.js";
import { prepare } from "./pixels.js";
import { encodeClassMap } from "./png.js";
import { countRegions } from "./regions.js";
import { isTiff, readTiff } from "./tiff.js";
import { geoJSONText, toGeoJSON } from "./vector.js";

const $ = (id) => document.getElementById(id);
const segmenter = new WorkerSegmenter();
const OWN = "model.tflite"; // the one that lies beside the page
let source = { model: new URLSearchParams(location.search).get("model") ?? OWN };
let shown = null; // {pixels, result, stem}
let stream = null;
let stack = null; // {read, stem} of a TIFF of several pages
let job = 0;
let kept = null; // since when, where the network did not answer and the worker gave the model that it had kept

const say = (text) => { $("status").textContent = text; };

function fail(error) {
  const known = error instanceof UnetresError ? error : new FileSystemError(error?.message ?? `${error}`);
  const { code, message, file, expected, found, fix } = known;
  $("error").dataset.code = code;
  $("error").replaceChildren(
    element("b", { textContent: message[0].toUpperCase() + message.slice(1) }),
    [file, expected && `expected ${expected}`, found && `found ${found}`, fix && `to mend it: ${fix}`].filter(Boolean).join("; "),
    " ",
    element("code", { textContent: `[${code}]` }),
  );
  $("error").hidden = false;
}

function element(name, values, ...children) {
  const made = Object.assign(document.createElement(name), values);
  made.append(...children);
  return made;
}

/** Do one thing at a time for the user; what goes wrong is shown, and the page goes on. */
async function attempt(doing, work) {
  $("error").hidden = true;
  say(doing);
  try {
    await work();
  } catch (error) {
    say("");
    fail(error);
  }
}

async function loadModel(next) {
  await attempt("Loading the model …", async () => {
    const options = { accelerator: $("accelerator").value, name: next.name };
    kept = null;
    const model = next.file ? new Uint8Array(await next.file.arrayBuffer()) : next.model;
    try {
      await segmenter.load(model, options);
    } catch (error) {
      $("accelerator").value = segmenter.accelerator ?? "wasm";
      throw error;
    }
    source = next;
    showCard(next.name ?? decodeURIComponent(`${next.model}`.split("/").pop()));
    keepOffline();
    sayReady();
    if (shown && !stream) await segment(shown.pixels, shown.stem);
  });
}

function sayReady() {
  const old = kept !== null && source.model === OWN;
  say(old ? `Ready, with the model kept ${kept ? `on ${kept}` : "from an earlier visit"}: the network does not answer.` : "Ready.");
  document.documentElement.dataset.model = old ? "kept" : "served";
}

function showCard(name) {
  const { classes, preprocessing: pre, recipe, head, sha256 } = segmenter.card;
  const how = { crop: "tiles at native scale", resize: "image scaled to fit", letterbox: "scaled, aspect kept" }[pre.fit];
  const facts = [
    ["File", name],
    ["Input", `${pre.size[1]} × ${pre.size[0]} × ${pre.channels}`],
    ["Method", how],
    ["Weights", recipe],
    ["Head", head],
    ["SHA-256", `${sha256.slice(0, 12)}… verified`],
  ];
  $("card").replaceChildren(...facts.map(([dt, dd]) =>
    element("div", {}, element("dt", { textContent: dt }), element("dd", { textContent: dd }))));
  $("backend").textContent = segmenter.backend;
  showAreas(classes.map(() => null), 0, null);
}

const backgroundOf = ({ background, classes }) => background ?? findBackground(classes); // older cards do not say it

function showAreas(counts, total, regions) {
  const rows = segmenter.card.classes.map(({ name, color }, id) => {
    const chip = element("span", { className: "chip" });
    chip.style.background = `rgb(${color})`;
    const known = counts[id] !== null;
    return element("tr", {},
      element("th", { scope: "row" }, chip, name),
      element("td", { textContent: known ? `${(100 * counts[id] / total).toFixed(1)} %` : "–" }),
      element("td", { textContent: known ? counts[id].toLocaleString("en") : "–" }),
      element("td", { textContent: regions && id !== backgroundOf(segmenter.card) ? regions[id].toLocaleString("en") : "–" }));
  });
  $("legend").tBodies[0].replaceChildren(...rows);
}

/** Decode as the files say, without colour management, and upright; what Python refuses is refused. */
async function decode(data, file) {
  checkFile(data, file);
  let bitmap;
  try {
    bitmap = await createImageBitmap(new Blob([data]), {
      colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "from-image",
    });
  } catch {
    throw new ImageError("cannot decode: not an image this browser knows", { file, fix: "save it as PNG" });
  }
  try {
    checkSize(bitmap.width, bitmap.height);
    return inPieces(bitmap);
  } finally {
    bitmap.close();
  }
}

const PIECE = 2048; // px of a side; a canvas of a whole image may be more than a browser has, and is empty then

/** Read the pixels of a bitmap of any size. */
function inPieces(bitmap) {
  const { width, height } = bitmap;
  if (width <= PIECE && height <= PIECE) return draw(bitmap, width, height);
  const pixels = new ImageData(width, height);
  for (let top = 0; top < height; top += PIECE) {
    for (let left = 0; left < width; left += PIECE) {
      const [columns, rows] = [Math.min(PIECE, width - left), Math.min(PIECE, height - top)];
      const piece = draw(bitmap, columns, rows, left, top).data;
      for (let y = 0; y < rows; y++) {
        pixels.data.set(piece.subarray(4 * y * columns, 4 * (y + 1) * columns), 4 * ((top + y) * width + left));
      }
    }
  }
  return pixels;
}

function draw(image, width, height, left = 0, top = 0) {
  const context = element("canvas", { width, height }).getContext("2d", { willReadFrequently: true });
  context.drawImage(image, -left, -top);
  return context.getImageData(0, 0, width, height);
}

/** What is shown of pixels: those of a canvas as they are; of others three, 16 bits stretched. */
function viewOf({ data, width, height, channels }) {
  if (channels === undefined) return new ImageData(data, width, height);
  const chosen = segmenter.card.show?.length === 3 && Math.max(...segmenter.card.show) <= channels
    ? segmenter.card.show.map((number) => number - 1) : channels < 3 ? [0, 0, 0] : [0, 1, 2];
  const stretch = data instanceof Uint16Array ? [1, 99] : null;
  const planes = chosen.map((c) => {
    const plane = new (/** @type {any} */ (data).constructor)(width * height);
    for (let i = 0; i < plane.length; i++) plane[i] = data[i * channels + c];
    return prepare({ data: plane, width, height, channels: 1 }, { channels: 1, per_image: stretch }).data;
  });
  const view = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) view.data.set([planes[0][i], planes[1][i], planes[2][i], 255], 4 * i);
  return view;
}

async function openImage(file) {
  if (!file) return;
  stopCamera();
  await attempt(`Reading ${file.name} …`, async () => {
    const data = new Uint8Array(await file.arrayBuffer());
    const stem = file.name.replace(/\.[^.]*$/, "");
    showPages(null);
    if (!isTiff(data)) return segment(await decode(data, file.name), stem);
    try {
      const { count, read } = readTiff(data, { stacked: segmenter.card?.dataset?.pages === "channels" });
      if (count > 1) showPages({ count, read, stem });
      await segment(await read(0), count > 1 ? `${stem}_0` : stem);
    } catch (error) {
      throw error instanceof UnetresError ? Object.assign(error, { file: error.file ?? file.name }) : error;
    }
  });
}

function showPages(next) {
  stack = next;
  $("pages").hidden = !next;
  if (next) Object.assign($("page"), { max: next.count, value: 1 });
  $("count").textContent = next ? next.count : "";
}

/** Show another page of a stack, counted from 1. */
async function openPage(number) {
  const { count, read, stem } = stack;
  const page = Math.min(Math.max(1, Math.round(number) || 1), count) - 1;
  $("page").value = page + 1;
  await attempt(`Reading page ${page + 1} …`, async () => segment(await read(page), `${stem}_${page}`));
}

/** Offer the sample that was served with the page, if there is one. */
async function offerSample() {
  const { name } = await (await fetch("sample.json")).json();
  if (!name) return;
  $("sample").hidden = false;
  $("sample").onclick = async () => openImage(new File([await (await fetch(name)).blob()], name));
}

async function segment(pixels, stem) {
  if (!segmenter.card) throw new FileSystemError("no model is loaded", { fix: "choose a .tflite under Model" });
  const mine = ++job;
  const begin = performance.now();
  if (!stream) say(`Segmenting ${pixels.width} × ${pixels.height} …`); // a screen reader is not told of every frame
  show(pixels);
  const result = await segmenter.segment(pixels);
  if (mine !== job) return;
  shown = { pixels, result, stem };
  paint(result);
  sayFamiliarity(result);
  const total = performance.now() - begin;
  $("latency").textContent = `${Math.round(total)} ms`;
  $("infer").textContent = `${Math.round(result.timing.infer)} ms`;
  for (const id of ["mask", "overlay", "geojson"]) $(id).disabled = false;
  say(`${stem}, ${pixels.width} × ${pixels.height} px`);
}

/** Say in a badge what is unlike the training images, if anything is. */
function sayFamiliarity({ familiarity, warnings }) {
  $("unfamiliar").hidden = !warnings.length;
  const share = familiarity === null ? "" : ` (familiarity ${familiarity.toFixed(3)})`;
  $("unfamiliar").textContent = warnings.length ? `Unlike the training images: ${warnings.join("; ")}${share}` : "";
}

function show(pixels) {
  const { width, height } = pixels;
  $("drop").hidden = true;
  $("view").hidden = $("again").hidden = false;
  $("view").classList.toggle("crisp", width < 400);
  for (const id of stream ? ["base"] : ["base", "tint", "edges"]) Object.assign($(id), { width, height });
  $("base").getContext("2d").putImageData(viewOf(pixels), 0, 0);
}

function paint({ classMap, width, height }) {
  const { classes } = segmenter.card;
  const background = backgroundOf(segmenter.card);
  const colors = classes.map(({ color: [r, g, b] }) => (255 << 24) | (b << 16) | (g << 8) | r);
  const counts = new Array(classes.length).fill(0);
  const [tint, edges] = [new ImageData(width, height), new ImageData(width, height)];
  const [inside, border] = [new Int32Array(tint.data.buffer), new Int32Array(edges.data.buffer)];
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      const id = classMap[at];
      counts[id]++;
      if (id === background) continue;
      inside[at] = colors[id];
      const differs = (x && classMap[at - 1] !== id) || (x + 1 < width && classMap[at + 1] !== id)
        || (y && classMap[at - width] !== id) || (y + 1 < height && classMap[at + width] !== id);
      if (differs) border[at] = colors[id];
    }
  }
  for (const [id, data] of [["tint", tint], ["edges", edges]]) {
    Object.assign($(id), { width, height });
    $(id).getContext("2d").putImageData(data, 0, 0);
  }
  showAreas(counts, width * height, stream ? null : countRegions({ classMap, width, height }, classes.length));
  const words = classes.map(({ name }, id) => `${name} ${(100 * counts[id] / classMap.length).toFixed(1)} %`);
  $("edges").setAttribute("aria-label", `Segmented image: ${words.join(", ")}`);
}

async function toggleCamera() {
  if (stream) return stopCamera();
  await attempt("Asking for the camera …", async () => {
    if (!navigator.mediaDevices) {
      throw new FileSystemError("browsers give a page over plain http no camera", { fix: "serve it over https (--cert, --key), or from localhost" });
    }
    const video = element("video", { muted: true, playsInline: true });
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: 640 } });
    const mine = stream;
    video.srcObject = mine;
    await video.play();
    say("webcam");
    $("camera").setAttribute("aria-pressed", "true");
    $("camera").textContent = "Stop the webcam";
    while (stream === mine) await segment(draw(video, video.videoWidth, video.videoHeight), "webcam");
  });
  if (!$("error").hidden) stopCamera();
}

function stopCamera() {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = null;
  $("camera").setAttribute("aria-pressed", "false");
  $("camera").textContent = "Use the webcam";
}

function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Let the service worker keep what was loaded, for use without a network. */
async function keepOffline() {
  if (!("serviceWorker" in navigator) || !isSecureContext) return;
  try {
    const worker = await (await fetch("sw.js")).text();
    if (!worker.startsWith("self.OFFLINE")) return; // a demo, which the next one takes the place of
    await navigator.serviceWorker.register("sw.js");
    const { active } = await navigator.serviceWorker.ready;
    const own = performance.getEntriesByType("resource").map((entry) => entry.name);
    active.postMessage([location.origin + location.pathname, ...own, ...segmenter.resources]);
  } catch {
    // Offline use is a gift; the page works without it.
  }
}

navigator.serviceWorker?.addEventListener("message", ({ data }) => {
  if (data === "offline") document.documentElement.dataset.offline = "ready";
  if (data?.kept === undefined) return;
  kept = data.kept && !Number.isNaN(Date.parse(data.kept)) ? new Date(data.kept).toLocaleDateString("en-CA") : "";
  if (segmenter.card) sayReady(); // else it is said when the model is there
});
for (const id of ["file", "file2"]) {
  $(id).onchange = ({ target }) => openImage(target.files[0]).finally(() => { target.value = ""; });
}
$("model").onchange = ({ target }) => {
  const [file] = target.files;
  if (file) loadModel({ file, name: file.name }).finally(() => { target.value = ""; });
};
$("byAddress").onsubmit = (event) => {
  event.preventDefault();
  loadModel({ model: $("address").value });
};
$("accelerator").onchange = () => loadModel(source);
$("camera").onclick = toggleCamera;
$("opacity").oninput = () => {
  $("tint").style.opacity = $("opacity").value / 100;
  $("opacityValue").textContent = `${$("opacity").value} %`;
};
$("opacity").oninput();
$("mask").onclick = () => attempt("Writing the mask …", async () => {
  save(await encodeClassMap(shown.result, segmenter.card.classes.map(({ color }) => color)), `${shown.stem}.png`);
  say("Mask written: an indexed PNG, indices are class ids.");
});
$("overlay").onclick = () => attempt("Drawing the overlay …", async () => {
  const { width, height } = $("base");
  const canvas = element("canvas", { width, height });
  const context = canvas.getContext("2d");
  context.drawImage($("base"), 0, 0);
  context.globalAlpha = $("opacity").value / 100;
  context.drawImage($("tint"), 0, 0);
  context.globalAlpha = 1;
  context.drawImage($("edges"), 0, 0);
  const blob = await new Promise((done) => { canvas.toBlob(done, "image/png"); });
  if (!blob) throw new FileSystemError("the image is too large for a canvas of this browser", { fix: "save the mask instead" });
  save(blob, `${shown.stem}_overlay.png`);
  say("Overlay written.");
});
$("page").onchange = ({ target }) => openPage(Number(target.value));
$("geojson").onclick = () => attempt("Tracing polygons …", async () => {
  const text = geoJSONText(toGeoJSON(shown.result, segmenter.card.classes, backgroundOf(segmenter.card)));
  save(new Blob([text], { type: "application/geo+json" }), `${shown.stem}.geojson`);
  say("Polygons written, in pixels.");
});
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind !== "drop") return;
    const [file] = event.dataTransfer.files;
    if (file?.name.endsWith(".tflite")) loadModel({ file, name: file.name });
    else openImage(file);
  });
}
addEventListener("paste", (event) => openImage(event.clipboardData.files[0]));
if (!navigator.gpu) {
  const option = $("accelerator").options[1];
  option.disabled = true;
  option.textContent = "WebGPU (not in this browser)";
}
if (typeof WebAssembly === "undefined") fail(new FileSystemError("this browser has no WebAssembly", { fix: "use a current browser" }));
else loadModel(source).then(offerSample, () => {});
