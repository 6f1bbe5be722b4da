// The card inside a .tflite, and the digest over the whole file (unetres_edge.model.card). No LiteRT is needed to read it.

import { CardMissingError, ModelDamagedError, ModelError } from "./errors.js";
import { checkFamiliarity } from "./familiarity.js";
import { sha256 } from "./sha256.js";

const NAME = "KERAS_UNETRES_CARD";
const KEY = '"sha256": "';
const FIELDS = ["channels", "color_order", "value_range", "mean", "std", "per_image", "fit", "size"];
const COPY = "copy the model file again";

/**
 * How images meet the network.
 * @typedef {object} Preprocessing
 * @property {number} channels
 * @property {"rgb" | "bgr"} color_order
 * @property {[number, number]} value_range
 * @property {number[]} mean
 * @property {number[]} std
 * @property {[number, number] | null} per_image
 * @property {"crop" | "resize" | "letterbox"} fit
 * @property {[number, number]} size (height, width) of the network's input in px
 */

/**
 * What makes the probabilities of a file right: those of scores / temperature + bias (unetres_edge.model.calibration).
 * @typedef {object} Calibration
 * @property {number} temperature
 * @property {number[]} bias one a class, or none
 * @property {number} images
 * @property {string} split
 */

/**
 * What a model file says about itself.
 * @typedef {object} Card
 * @property {1} schema
 * @property {"segment" | "classify"} task
 * @property {{name: string, color: [number, number, number]}[]} classes
 * @property {Preprocessing} preprocessing
 * @property {"logits" | "argmax"} head
 * @property {number | null} ignore_index
 * @property {number} [background]
 * @property {number} halo
 * @property {number} [stride]
 * @property {number} [crop] px of each side of the input that have no output
 * @property {"softmax" | "sigmoid" | "none"} [activation]
 * @property {Calibration | null} [calibration]
 * @property {import("./familiarity.js").Familiarity | null} [familiarity]
 * @property {string} recipe
 * @property {Record<string, unknown>} scores
 * @property {Record<string, unknown>} dataset
 * @property {Record<string, string>} versions
 * @property {number} [resealed]
 * @property {string} sha256
 */

/**
 * Read the card of a model file, after checking its digest.
 * @param {Uint8Array} data the file's bytes
 * @param {string} [file] how errors name it
 * @returns {Promise<Card>}
 */
export async function readCard(data, file) {
  const [start, end] = findCard(data, file);
  const text = latin(data, start, end);
  const at = text.lastIndexOf(KEY);
  const first = start + at + KEY.length;
  if (at < 0 || first + 64 > end) throw new ModelDamagedError("the card has no digest", { file, fix: COPY });
  const stored = latin(data, first, first + 64);
  const found = await fileDigest(data, first);
  if (found !== stored) {
    throw new ModelDamagedError("the file changed since it was sealed", {
      file,
      expected: `SHA-256 ${stored.slice(0, 12)}...`,
      found: `${found.slice(0, 12)}...`,
      fix: "copy the model file again, or export it again",
    });
  }
  try {
    return checkCard(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(data.subarray(start, end))));
  } catch (error) {
    if (error instanceof ModelError) throw Object.assign(error, { file });
    throw new ModelError(`card is not readable: ${error.message}`, { file });
  }
}

/**
 * A tensor of the graph.
 * @typedef {{type: number, shape: number[], scale: number, zeroPoint: number}} Tensor
 */

/** Tensor types of the TFLite schema that are met here. */
export const FLOAT32 = 0, INT32 = 2, UINT8 = 3, INT8 = 9;

/**
 * What the graph takes and gives: its first input and output, and how many there are of each.
 * @param {Uint8Array} data the file's bytes
 * @returns {{counts: number[], input: Tensor, output: Tensor}}
 */
export function readTensors(data) {
  const flat = new Flatbuffer(data);
  const graph = flat.follow(flat.vector(flat.follow(0), 2)[0]);
  const tensors = flat.vector(graph, 0);
  const [inputs, outputs] = [1, 2].map((field) => flat.vector(graph, field));
  const read = (at) => {
    const tensor = flat.follow(tensors[flat.view.getInt32(at, true)]);
    const kind = flat.field(tensor, 1);
    const quantization = flat.field(tensor, 4);
    const table = quantization === null ? null : flat.follow(quantization);
    const [scale] = table === null ? [] : flat.vector(table, 2);
    const [low] = table === null ? [] : flat.vector(table, 3, 8);
    return {
      type: kind === null ? 0 : flat.view.getInt8(kind),
      shape: flat.vector(tensor, 0).map((p) => flat.view.getInt32(p, true)),
      scale: scale === undefined ? 0 : flat.view.getFloat32(scale, true),
      zeroPoint: low === undefined ? 0 : Number(flat.view.getBigInt64(low, true)),
    };
  };
  return { counts: [inputs.length, outputs.length], input: read(inputs[0]), output: read(outputs[0]) };
}

function checkCard(card) {
  const need = (right, what) => {
    if (!right) throw new ModelError(`card is not readable: ${what}`, { fix: "export the model again" });
  };
  if (card.schema !== 1) {
    throw new ModelError("card is of another schema", { expected: 1, found: card.schema, fix: "update this page" });
  }
  need(["segment", "classify"].includes(card.task), "unknown task");
  need(["logits", "argmax"].includes(card.head), "unknown head");
  need(Array.isArray(card.classes) && card.classes.length, "no classes");
  need(card.task !== "segment" || card.classes.length <= 255, "more than 255 classes");
  need(card.classes.every((c) => typeof c.name === "string"), "a class has no name");
  // They become style and markup of the page: whole numbers, or nothing.
  need(card.classes.every((c) => numbers(c.color, 3) && c.color.every((v) => Number.isInteger(v) && v >= 0 && v <= 255)),
    "a colour is not of three whole numbers 0..255");
  need(typeof card.recipe === "string", "recipe");
  need(card.ignore_index === null || Number.isInteger(card.ignore_index), "ignore_index");
  need(card.background === undefined
    || (Number.isInteger(card.background) && card.background >= 0 && card.background < card.classes.length), "background");
  need(Number.isInteger(card.halo) && Number.isInteger(card.stride ?? 0), "halo or stride");
  if (card.calibration !== undefined && card.calibration !== null) {
    const { temperature, bias } = card.calibration;
    need(numbers([temperature], 1) && temperature >= 1 / 64 && temperature <= 64, "temperature");
    need((numbers(bias, 0) || numbers(bias, card.classes.length)) && bias.every((v) => Math.abs(v) <= 64), "bias");
  }
  if (card.familiarity !== undefined && card.familiarity !== null) checkFamiliarity(card.familiarity, need);
  const pre = card.preprocessing;
  need(Object.keys(pre).sort().join() === [...FIELDS].sort().join(), "preprocessing fields differ");
  need(["crop", "resize", "letterbox"].includes(pre.fit), "unknown fit");
  need(["rgb", "bgr"].includes(pre.color_order), "colour order");
  need(Number.isInteger(pre.channels) && pre.channels > 0 && pre.channels <= 1024, "channels");
  need(numbers(pre.size, 2) && pre.size.every((v) => Number.isInteger(v) && v > 0 && v <= 65536), "size");
  need(numbers(pre.value_range, 2) && pre.value_range[0] < pre.value_range[1], "value_range");
  need([pre.mean, pre.std].every((v) => numbers(v, 1) || numbers(v, pre.channels)), "mean or std");
  need(pre.std.every((v) => v >= 1e-9), "std");
  need([...pre.value_range, ...pre.mean, ...pre.std].every((v) => Math.abs(v) <= 1e9), "value_range, mean or std");
  need(pre.per_image === null || (numbers(pre.per_image, 2) && pre.per_image[0] >= 0
    && pre.per_image[0] < pre.per_image[1] && pre.per_image[1] <= 100), "per_image");
  const { crop = 0, stride = 0 } = card;
  need(Number.isInteger(crop) && crop >= 0 && (crop === 0
    || (card.task === "segment" && pre.fit === "crop" && stride >= 1 && stride <= Math.min(...pre.size) - 2 * crop)), "crop");
  return card;
}

const numbers = (values, count) =>
  Array.isArray(values) && values.length === count && values.every((value) => Number.isFinite(value));

async function fileDigest(data, first) {
  const { subtle } = globalThis.crypto ?? {}; // pages over plain http have none
  const copy = data.slice();
  copy.fill(0x30, first, first + 64);
  const bytes = subtle ? new Uint8Array(await subtle.digest("SHA-256", copy)) : sha256(copy);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function findCard(data, file) {
  if (latin(data, 4, 8) !== "TFL3") {
    throw new ModelError("not a .tflite file", { file, expected: "a TFLite flatbuffer", found: kindOf(data) });
  }
  try {
    const flat = new Flatbuffer(data);
    const model = flat.follow(0);
    for (const entry of flat.vector(model, 6)) {
      const metadata = flat.follow(entry);
      const [start, end] = flat.span(metadata, 0); // one long name may stand in all entries
      if (end - start === NAME.length && latin(data, start, end) === NAME) {
        const at = flat.field(metadata, 1);
        const number = at === null ? 0 : flat.view.getUint32(at, true);
        return flat.span(flat.follow(flat.vector(model, 4)[number]), 0);
      }
    }
  } catch (error) {
    if (!(error instanceof RangeError || error instanceof TypeError)) throw error;
    throw new ModelDamagedError("the file is incomplete or damaged", { file, found: `${data.length} bytes`, fix: COPY });
  }
  throw new CardMissingError("the .tflite has no card", {
    file,
    expected: "a file written by `unetres export`",
    fix: "export the model with keras_unetres.export_tflite",
  });
}

function kindOf(data) {
  if (!data.length) return "an empty file";
  const start = latin(data, 0, 4);
  if (start === "PK\x03\x04") return "a zip archive (perhaps .keras)";
  if (start === "\x89HDF") return "an HDF5 file";
  if (start === "\x89PNG") return "a PNG image";
  if (start.startsWith("\xff\xd8")) return "a JPEG image";
  return start.trimStart().startsWith("<") ? "a web page" : "something else";
}

/** Text of one byte a character; in pieces, since a call takes only so many arguments. */
function latin(data, start, end) {
  let text = "";
  for (let at = start; at < end; at += 4096) {
    text += String.fromCharCode(...data.subarray(at, Math.min(end, at + 4096)));
  }
  return text;
}

/** The few steps through a flatbuffer that are taken here; leaving the file throws RangeError. */
class Flatbuffer {
  constructor(data) {
    this.view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  }

  follow(at) {
    return at + this.view.getUint32(at, true);
  }

  field(table, number) {
    const vtable = table - this.view.getInt32(table, true);
    if (4 + 2 * number >= this.view.getUint16(vtable, true)) return null;
    const offset = this.view.getUint16(vtable + 4 + 2 * number, true);
    return offset ? table + offset : null;
  }

  span(table, number, width = 1) {
    const at = this.field(table, number);
    if (at === null) return [0, 0];
    const start = this.follow(at) + 4;
    const end = start + width * this.view.getUint32(start - 4, true);
    if (end > this.view.byteLength) throw new RangeError("vector beyond the file");
    return [start, end];
  }

  vector(table, number, width = 4) {
    const [start, end] = this.span(table, number, width);
    return Array.from({ length: (end - start) / width }, (_, index) => start + width * index);
  }
}
