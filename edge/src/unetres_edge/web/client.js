// The Segmenter of segmenter.js in a Web Worker, with the same `load`, `segment` and `close`.

import { FileSystemError, restoreError } from "./errors.js";

/** @typedef {import("./segmenter.js").LoadOptions} LoadOptions */
/** @typedef {import("./segmenter.js").Picture} Picture */
/** @typedef {import("./segmenter.js").Result} Result */

export class WorkerSegmenter {
  /** @type {Worker} */
  #worker;
  #waiting = new Map();
  #last = 0;
  /** @type {import("./card.js").Card | undefined} */
  card;
  /** What runs the network, in words. @type {string | undefined} */
  backend;
  /** @type {number | undefined} */
  overlap;
  /** @type {import("./segmenter.js").Accelerator | undefined} */
  accelerator;
  /** Addresses of what the worker has loaded. @type {string[]} */
  resources = [];

  /** @param {Worker} [worker] */
  constructor(worker = new Worker(new URL("worker.js", import.meta.url))) {
    this.#listen(worker);
  }

  #listen(worker) {
    this.#worker = worker;
    worker.onmessage = ({ data: { id, result, problem } }) => {
      const { resolve, reject } = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (problem) reject(restoreError(problem));
      else resolve(result);
    };
    worker.onerror = (event) => {
      const error = new FileSystemError(`the worker stopped: ${event.message}`, { fix: "reload the page" });
      for (const { reject } of this.#waiting.values()) reject(error);
      this.#waiting.clear();
    };
  }

  /**
   * Load a model in a worker of its own.
   * @param {string | URL | Uint8Array | ArrayBuffer} model
   * @param {LoadOptions} [options]
   * @returns {Promise<WorkerSegmenter>}
   */
  static async load(model, options) {
    const segmenter = new WorkerSegmenter();
    try {
      await segmenter.load(model, options);
      return segmenter;
    } catch (error) {
      segmenter.close();
      throw error;
    }
  }

  /**
   * Load a model; a worker that holds one keeps it when this fails.
   * @param {string | URL | Uint8Array | ArrayBuffer} model
   * @param {LoadOptions} [options]
   * @returns {Promise<void>}
   */
  async load(model, options = {}) {
    const { accelerator = "wasm" } = options;
    if (this.accelerator && accelerator !== this.accelerator) { // LiteRT.js starts once in a thread, in one way
      const next = await WorkerSegmenter.load(model, options);
      await Promise.allSettled(Array.from(this.#waiting.values(), ({ promise }) => promise));
      this.close();
      this.#listen(next.#worker);
      Object.assign(this, next);
      return;
    }
    const sent = typeof model === "string" || model instanceof URL ? new URL(model, location.href).href : model;
    const loaded = await this.#ask({ kind: "load", model: sent, options });
    Object.assign(this, loaded, { accelerator });
  }

  /**
   * Give every pixel of an image a class; an ImageBitmap or a VideoFrame is used up.
   * @param {Picture} image
   * @param {{scores?: boolean, confidence?: boolean}} [options]
   * @returns {Promise<Result>}
   */
  async segment(image, { scores = false, confidence = false } = {}) {
    const closes = "close" in image;
    const sent = "data" in image || closes ? image : await createImageBitmap(image);
    return this.#ask({ kind: "segment", image: sent, scores, confidence }, closes || sent !== image ? [sent] : []);
  }

  close() {
    this.#worker.terminate();
  }

  #ask(message, moved = []) {
    const id = ++this.#last;
    const promise = new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, ...message }, moved);
    });
    this.#waiting.get(id).promise = promise;
    return promise;
  }
}
