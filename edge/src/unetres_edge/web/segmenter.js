// From an image of any size to a class for every pixel, in a browser tab or in Node: unetres_edge.Segmenter on LiteRT.js.
// By the same rules, so with the same labels. No upload: all of it runs here.

import { readCard } from "./card.js";
import { LiteRTEngine, NODE } from "./engine.js";
import { FileSystemError, ImageError, ModelError, UsageError } from "./errors.js";
import { Doubt, featuresOf, judge } from "./familiarity.js";
import { placed, prepare, scaleOnto } from "./pixels.js";
import { blendedRows, joinedRows, padToTile, resizedRows, unpaddedRows } from "./tiles.js";

export * from "./errors.js";
export { readCard } from "./card.js";

/** @typedef {import("./card.js").Card} Card */
const LEAST = 1.17549435e-38; // a probability below this counts as this
/** @typedef {"wasm" | "webgpu"} Accelerator */

/**
 * @typedef {object} LoadOptions
 * @property {Accelerator} [accelerator] what runs the network; "wasm" unless given
 * @property {number} [overlap] pixels shared by neighbouring tiles; the halo, at most a quarter of the tile, unless given
 * @property {string | URL} [litert] a folder laid out as LiteRT.js's npm package; "litert/" beside this module, in Node
 *   the installed package, unless given
 * @property {boolean} [threads] several threads; where the page is cross-origin isolated unless given
 * @property {string} [name] how errors name the file
 */

/**
 * Pixels without a canvas: (height, width, channels), grey or RGB or opaque RGBA.
 * @typedef {object} RawImage
 * @property {Uint8Array | Uint8ClampedArray | Uint16Array} data
 * @property {number} width
 * @property {number} height
 * @property {number} [channels] 4 unless given
 */

/** @typedef {ImageData | RawImage | HTMLImageElement | HTMLVideoElement | HTMLCanvasElement | ImageBitmap | VideoFrame} Picture */

/**
 * @typedef {object} Result
 * @property {Uint8Array} classMap (height, width) class ids, at the image's own size
 * @property {number} width
 * @property {number} height
 * @property {Float32Array} [scores] (height, width, classes) scores before the argmax, where asked for
 * @property {Float32Array} [confidence] (height, width) the probability of each pixel's class, calibrated where the card says
 *   how, where asked for
 * @property {number | null} familiarity share of held-out images as strange as this one: as unlike the training images, or as
 *   much in doubt; null where the card cannot tell
 * @property {string[]} warnings where that is 0.05 or less, why, in words
 * @property {number | null} doubt bits a pixel that the network is unsure inside of regions, 0 to 1; null where the card does
 *   not know what is usual
 * @property {number | null} quality mIoU that is to be expected of the class map, 0 to 1; null where the card cannot tell
 * @property {{prepare: number, infer: number, post: number, total: number}} timing milliseconds by stage
 */

/**
 * What runs the network.
 * @typedef {object} Engine
 * @property {string} backend in words
 * @property {number} milliseconds that it ran
 * @property {(tile: {data: Uint8Array, height: number, width: number, channels: number}) =>
 *   Promise<Float32Array | Uint8Array>} run one prepared tile to scores (h, w, classes) or labels (h, w)
 * @property {() => void} close
 */

export class Segmenter {
  /** @type {Engine | null} */
  #engine;
  #queue = Promise.resolve();

  /**
   * Join a card and an engine; `Segmenter.load` does this for a file.
   * @param {Card} card
   * @param {Engine} engine
   * @param {number} overlap
   */
  constructor(card, engine, overlap) {
    /** @readonly */
    this.card = card;
    /** @readonly */
    this.overlap = overlap;
    this.#engine = engine;
  }

  /**
   * Verify and load a model file.
   * @param {string | URL | Uint8Array | ArrayBuffer} model where the .tflite lies, or its bytes
   * @param {LoadOptions} [options]
   * @returns {Promise<Segmenter>}
   */
  static async load(model, { accelerator = "wasm", overlap, litert, threads, name } = {}) {
    if (accelerator !== "wasm" && accelerator !== "webgpu") {
      throw new UsageError("unknown accelerator", { expected: "wasm or webgpu", found: accelerator });
    }
    const file = name ?? (isAddress(model) ? `${model}` : undefined);
    const data = await bytesOf(model);
    const card = await readCard(data, file);
    if (card.task !== "segment") {
      throw new ModelError("the model is not a segmenter", { file, expected: "task 'segment'", found: card.task });
    }
    const side = card.crop ? 1 : Math.min(...card.preprocessing.size); // tiles of an unpadded network share no pixels
    overlap ??= Math.min(card.halo || side, Math.floor(side / 4));
    if (!Number.isInteger(overlap) || overlap < 0 || overlap >= side) {
      throw new UsageError("overlap is wrong", { expected: `0 to ${side - 1} px`, found: overlap });
    }
    const base = litert ? new URL(litert, import.meta.url) : NODE ? null : new URL("litert/", import.meta.url);
    threads ??= globalThis.crossOriginIsolated === true;
    try {
      return new Segmenter(card, await LiteRTEngine.load(data, card, { accelerator, litert: base, threads }), overlap);
    } catch (error) {
      throw error.file === undefined && file ? Object.assign(error, { file }) : error;
    }
  }

  /** What runs the network, in words. */
  get backend() {
    return this.#open().backend;
  }

  /**
   * Give every pixel of an image a class. Calls wait for each other.
   * @param {Picture} image
   * @param {{scores?: boolean, confidence?: boolean}} [options]
   * @returns {Promise<Result>}
   */
  segment(image, { scores = false, confidence = false } = {}) {
    const result = this.#queue.then(() => this.#segment(image, scores, confidence));
    this.#queue = result.then(() => {}, () => {});
    return result;
  }

  async #segment(image, keepsScores, wantsConfidence) {
    const start = performance.now();
    const engine = this.#open();
    const { preprocessing: pre, head, classes } = this.card;
    const wantsScores = keepsScores || wantsConfidence;
    if (wantsScores && head === "argmax") {
      throw new UsageError("a model with an argmax head has no scores", { fix: "export it with --head logits" });
    }
    const prepared = prepare(pixelsOf(image), pre);
    const { height, width } = prepared;
    const onto = pre.fit === "crop" ? null : scaleOnto(prepared, placed(height, width, pre), pre.size);
    const known = this.card.familiarity;
    const features = featuresOf(known, onto ?? prepared, pre.color_order === "bgr" && pre.channels === 3);
    const doubt = features && known?.doubts?.length && head === "logits" ? new Doubt(height, width, this.card) : null;
    const ready = performance.now();
    engine.milliseconds = 0;
    const count = classes.length;
    const classMap = new Uint8Array(height * width);
    const kept = keepsScores ? new Float32Array(height * width * count) : undefined;
    const confidence = wantsConfidence ? new Float32Array(height * width) : undefined;
    for await (const [first, rows, values, stride] of this.#rows(prepared, onto, engine, wantsScores)) {
      for (let row = first; row < Math.min(first + rows, height); row++) {
        const from = (row - first) * stride;
        if (values instanceof Uint8Array) {
          classMap.set(values.subarray(from, from + width), row * width);
          continue;
        }
        doubt?.add(row, values, from * count);
        argmax(values, from * count, classMap, row * width, width, count);
        if (confidence) probabilityOf(classMap, values, from * count, confidence, row * width, width, this.card);
        kept?.set(values.subarray(from * count, (from + width) * count), row * width * count);
      }
    }
    const end = performance.now();
    const infer = engine.milliseconds;
    const doubts = doubt && doubt.values;
    const { familiarity, warnings, quality } = judge(known, features, doubts);
    const timing = { prepare: ready - start, infer, post: end - ready - infer, total: end - start };
    const judged = { familiarity, warnings, doubt: doubts && doubts.inside / 65535, quality };
    return { classMap, width, height, scores: kept, confidence, ...judged, timing };
  }

  async *#rows(image, onto, engine, wantsScores) {
    const { preprocessing: pre, head, classes } = this.card;
    const run = (tile) => engine.run(tile);
    if (onto) {
      yield* scaledRows(image, onto, this.card, run);
      return;
    }
    if (this.card.crop) {
      yield* unpaddedRows(image, pre.size, this.card.crop, this.card.stride, run);
      return;
    }
    if (!wantsScores && image.height === pre.size[0] && image.width === pre.size[1]) {
      yield [0, image.height, await run(image), image.width]; // not even blended with itself
      return;
    }
    image = padToTile(image, pre.size);
    if (head === "argmax") yield* joinedRows(image, pre.size, this.overlap, run);
    else yield* blendedRows(image, pre.size, this.overlap, classes.length, run);
  }

  #open() {
    if (!this.#engine) throw new ModelError("the segmenter is closed");
    return this.#engine;
  }

  /** Free the model; `segment` refuses from then on. */
  close() {
    this.#engine?.close();
    this.#engine = null;
  }
}

/**
 * Yield rows of a whole image that was scaled to the network's input and back.
 * @param {{height: number, width: number}} image
 * @param {{data: Uint8Array, height: number, width: number, channels: number}} onto what the network sees of it
 * @param {Card} card
 * @param {(tile: object) => Promise<Float32Array | Uint8Array>} run
 */
async function* scaledRows(image, onto, { preprocessing: pre, head, classes }, run) {
  const { height, width } = image;
  const part = placed(height, width, pre);
  const values = await run(onto);
  if (head === "logits") {
    yield* resizedRows(values, pre.size[1], part, height, width, classes.length);
    return;
  }
  const labels = new Uint8Array(height * width);
  for (let y = 0; y < height; y++) {
    const from = Math.trunc((y + 0.5) * (part[0] / height)) * pre.size[1];
    for (let x = 0; x < width; x++) labels[y * width + x] = values[from + Math.trunc((x + 0.5) * (part[1] / width))];
  }
  yield [0, height, labels, width];
}

function argmax(scores, at, out, to, pixels, count) {
  for (let end = to + pixels; to < end; to++, at += count) {
    let best = 0;
    for (let c = 1; c < count; c++) if (scores[at + c] > scores[at + best]) best = c;
    out[to] = best;
  }
}

/**
 * Write the probability of the class of each of some pixels (unetres_edge.results.softmax).
 * @param {Uint8Array} classMap
 * @param {Float32Array} scores
 * @param {number} at where their scores begin
 * @param {Float32Array} out
 * @param {number} to where their classes and probabilities begin
 * @param {number} pixels
 * @param {Card} card
 */
function probabilityOf(classMap, scores, at, out, to, pixels, { activation = "softmax", calibration, classes }) {
  const count = classes.length;
  const moved = new Float64Array(count);
  const scale = calibration ? 1 / calibration.temperature : 1;
  for (let end = to + pixels; to < end; to++, at += count) {
    for (let c = 0; c < count; c++) {
      const score = scores[at + c];
      if (!calibration) moved[c] = score;
      else moved[c] = (activation === "none" ? Math.log(Math.max(score, LEAST)) : score) * scale + (calibration.bias[c] ?? 0);
    }
    const own = moved[classMap[to]];
    if (activation === "none" && !calibration) out[to] = own;
    else if (activation === "sigmoid") out[to] = 1 / (1 + Math.exp(-own));
    else out[to] = 1 / moved.reduce((sum, value) => sum + Math.exp(value - own), 0);
  }
}

/** ImageData or raw pixels as they are; what a canvas can draw, by way of one. */
function pixelsOf(image) {
  if (image?.data && image.width && image.height) return image;
  const width = image?.naturalWidth || image?.displayWidth || image?.videoWidth || image?.width;
  const height = image?.naturalHeight || image?.displayHeight || image?.videoHeight || image?.height;
  if (!(width > 0 && height > 0) || typeof OffscreenCanvas === "undefined") {
    throw new ImageError("not an image", { expected: "ImageData, an image that is loaded, or a video frame" });
  }
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) throw new ImageError("this browser cannot read pixels", { found: "no 2d canvas" });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, width, height);
}

const isAddress = (model) => typeof model === "string" || model instanceof URL;

/** @param {string | URL | Uint8Array | ArrayBuffer} model @returns {Promise<Uint8Array>} */
async function bytesOf(model) {
  if (typeof model === "string" || model instanceof URL) return fetchModel(model);
  return ArrayBuffer.isView(model) ? new Uint8Array(model.buffer, model.byteOffset, model.byteLength) : new Uint8Array(model);
}

async function fetchModel(url) {
  let found;
  try {
    const response = await fetch(url);
    if (response.ok) return new Uint8Array(await response.arrayBuffer());
    found = `HTTP ${response.status}`;
  } catch (error) {
    found = error.message;
  }
  throw new FileSystemError("cannot read the model file", { file: `${url}`, found, fix: "check the address" });
}
