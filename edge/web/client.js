// The Segmenter of segmenter.js in a Web Worker, with the same `load`, `segment` and `close`.

import { FileSystemError, restoreError } from "./errors.js";

export class WorkerSegmenter {
  #worker;
  #waiting = new Map();
  #last = 0;

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

  /** Load a model; takes what `Segmenter.load` takes. A worker that holds a model keeps it when this fails. */
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
    const address = typeof model === "string" || model instanceof URL;
    const loaded = await this.#ask({ kind: "load", model: address ? new URL(model, location.href).href : model, options });
    Object.assign(this, loaded, { accelerator });
  }

  /** Segment ImageData, raw pixels, an ImageBitmap or a VideoFrame (both are used up), or an image of the page. */
  async segment(image, { scores = false } = {}) {
    const closes = typeof image.close === "function";
    const sent = image.data || closes ? image : await createImageBitmap(image);
    return this.#ask({ kind: "segment", image: sent, scores }, closes || sent !== image ? [sent] : []);
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
