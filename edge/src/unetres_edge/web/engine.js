// Running a model file on LiteRT.js: one prepared tile to scores or labels (unetres_edge.engines).

import { FLOAT32, INT32, INT8, UINT8, readTensors } from "./card.js";
import { FileSystemError, ModelError } from "./errors.js";
import { tables } from "./pixels.js";

export const NODE = !!(/** @type {any} */ (globalThis).process?.versions?.node);
const NAMES = { [FLOAT32]: "float32", [INT32]: "int32", [UINT8]: "uint8", [INT8]: "int8" };
const HAIR = 1e-3; // of a step, as in unetres_edge.engines.codec
let loading = null;

/**
 * Start LiteRT.js, once in a thread. `base` is a folder laid out as its npm package. A GPU is waited for with the help of
 * JSPI, where the browser has it, and then there is one thread; a browser without takes networks that fit the GPU whole.
 */
function loadRuntime(base, { accelerator, threads }) {
  if (typeof WebAssembly === "undefined") {
    throw new FileSystemError("this browser has no WebAssembly", { fix: "use a current browser" });
  }
  const jspi = accelerator === "webgpu" && "Suspending" in WebAssembly;
  loading ??= start(base, jspi ? { jspi } : { threads }).catch((error) => {
    loading = null;
    throw new FileSystemError(`LiteRT.js does not start: ${error?.message ?? error}`, { fix: "reload the page" });
  });
  return loading.then((runtime) => {
    if (!jspi || runtime.jspi) return runtime;
    throw new FileSystemError("LiteRT.js has started without WebGPU here", { fix: "load the model in another Worker" });
  });
}

async function start(base, options) {
  const [api, wasm] = NODE
    ? await (await import("./node.js")).importLiteRt(base)
    : [await import(new URL("dist/index.js", base).href), new URL("wasm/", base).href];
  // A worker's own address is not where the WebAssembly lies. Failures are thrown; the log of each start is not wanted.
  const open = (kind) => {
    globalThis.Module = {
      locateFile: (name) => new URL(name, wasm).href,
      mainScriptUrlOrBlob: new URL("litert_wasm_threaded_internal.js", wasm).href,
      print() {},
      printErr() {},
    };
    return api.loadLiteRt(wasm, kind);
  };
  try {
    await open(options);
  } catch (error) {
    if (!options.threads) throw error;
    options = {};
    await open(options);
  }
  return { api, ...options };
}

export class LiteRTEngine {
  /** Load a verified file and check it against its card. */
  static async load(data, card, { accelerator, litert, threads }) {
    const tensors = readTensors(data);
    check(card, tensors);
    const runtime = await loadRuntime(litert, { accelerator, threads });
    if (accelerator === "webgpu" && !(runtime.api.isWebGPUSupported() && (await /** @type {any} */ (navigator).gpu.requestAdapter()))) {
      throw new FileSystemError("this browser has no WebGPU", { fix: "choose the accelerator wasm" });
    }
    const cores = globalThis.navigator?.hardwareConcurrency ?? 1;
    const options = { accelerator, ...(runtime.threads ? { cpuOptions: { numThreads: Math.min(cores, 8) } } : {}) };
    try {
      return new LiteRTEngine(card, tensors, runtime, await runtime.api.loadAndCompile(data, options));
    } catch (error) {
      throw new ModelError(`LiteRT refuses the model: ${error?.message ?? error}`);
    }
  }

  constructor(card, { input, output }, { api, threads }, model) {
    this.card = card;
    this.input = input;
    this.output = output;
    this.api = api;
    this.model = model;
    this.threads = threads;
    this.table = inputTables(tables(card.preprocessing), input);
    this.buffer = new this.table[0].constructor(input.shape.reduce((a, b) => a * b));
    this.levels = Float32Array.from({ length: 256 }, (_, level) => (level - output.zeroPoint) * output.scale);
    this.binary = card.head !== "argmax" && card.classes.length === 2 && output.shape.at(-1) === 1;
    this.milliseconds = 0;
  }

  /** What runs the network: LiteRT.js may keep parts of it, or all of it, off the GPU. */
  get backend() {
    const gpu = this.model.options.accelerator === "webgpu";
    if (!gpu) return this.threads ? "WebAssembly, threads" : "WebAssembly, 1 thread";
    return this.model.isFullyAccelerated ? "WebGPU" : "WebGPU and WebAssembly";
  }

  /** Return scores (h, w, classes) Float32Array, or labels (h, w) Uint8Array of an argmax head. */
  async run(tile) {
    const begin = performance.now();
    const { buffer, table, api } = this;
    const channels = tile.channels;
    for (let c = 0; c < channels; c++) {
      for (let i = c, levels = table[c]; i < buffer.length; i += channels) buffer[i] = levels[tile.data[i]];
    }
    const values = await this.#infer(new api.Tensor(buffer, this.input.shape));
    this.milliseconds += performance.now() - begin;
    if (this.card.head === "argmax") {
      const count = this.card.classes.length;
      const wrong = values.find((value) => !(value >= 0 && value < count));
      if (wrong !== undefined) {
        throw new ModelError("the model gave a class id that the card does not name", { found: wrong });
      }
      return Uint8Array.from(values);
    }
    if (this.output.type === FLOAT32) {
      if (!values.every(Number.isFinite)) {
        throw new ModelError("the model gave scores that are not finite", { fix: "export it again from a sound run" });
      }
      return this.#ofTwo(values);
    }
    return this.#ofTwo(Float32Array.from(values, (level) => this.levels[level]));
  }

  /** Scores of two classes, of the one channel that a binary network gives of the second. */
  #ofTwo(scores) {
    if (!this.binary) return scores;
    const whole = this.card.activation === "none" ? 1 : 0;
    return Float32Array.from({ length: 2 * scores.length }, (_, i) => (i % 2 ? scores[i >> 1] : whole - scores[i >> 1]));
  }

  async #infer(input) {
    let outputs = [];
    try {
      outputs = await this.model.run([input]);
      return (await outputs[0].data()).slice();
    } catch (error) {
      throw new ModelError(`the model does not run: ${error?.message ?? error}`);
    } finally {
      for (const tensor of [input, ...outputs]) if (!tensor.deleted) tensor.delete();
    }
  }

  close() {
    this.model.delete();
  }
}

function check(card, { counts, input, output }) {
  if (counts.join() !== "1,1") {
    throw new ModelError("model must have one input and one output", { found: counts.join(" and ") });
  }
  const { size, channels } = card.preprocessing;
  const place = [1, ...size.map((side) => side - 2 * (card.crop ?? 0))];
  const expected = [1, ...size, channels];
  if (input.shape.join() !== expected.join()) {
    throw new ModelError("model input is not what the card says", { expected, found: input.shape });
  }
  const shapes = card.head === "argmax" ? [place, [...place, 1]] : [[...place, card.classes.length]];
  if (card.classes.length === 2 && (card.activation ?? "softmax") !== "softmax") shapes.push([...place, 1]);
  if (!shapes.some((shape) => shape.join() === output.shape.join())) {
    throw new ModelError("model output is not what the card says", { expected: shapes[0], found: output.shape });
  }
  const kinds = card.head === "argmax" ? [UINT8, INT32] : [FLOAT32, UINT8];
  for (const [what, { type, scale }, allowed] of [["input", input, [FLOAT32, UINT8]], ["output", output, kinds]]) {
    if (!allowed.includes(type)) {
      throw new ModelError(`LiteRT.js cannot take a model ${what} of this dtype`, {
        expected: allowed.map((kind) => NAMES[kind]).join(" or "),
        found: NAMES[type] ?? type,
        fix: "export it with --head logits",
      });
    }
    if (type === UINT8 && !(what === "output" && card.head === "argmax") && !(scale > 0)) {
      throw new ModelError(`model ${what} has no quantization`, { found: `scale ${scale}` });
    }
  }
}

/** The entries of the input's dtype for the uint8 levels of each channel; halves go up, as in unetres_edge. */
function inputTables(values, { type, scale, zeroPoint }) {
  if (type === FLOAT32) return values;
  return values.map((table) =>
    Uint8Array.from(table, (value) =>
      Math.min(Math.max(Math.floor(value / scale + 0.5 + HAIR) + zeroPoint, 0), 255)));
}
