/** @typedef {import("./segmenter.js").LoadOptions} LoadOptions */
/** @typedef {import("./segmenter.js").Picture} Picture */
/** @typedef {import("./segmenter.js").Result} Result */
export class WorkerSegmenter {
    /**
     * Load a model in a worker of its own.
     * @param {string | URL | Uint8Array | ArrayBuffer} model
     * @param {LoadOptions} [options]
     * @returns {Promise<WorkerSegmenter>}
     */
    static load(model: string | URL | Uint8Array | ArrayBuffer, options?: LoadOptions): Promise<WorkerSegmenter>;
    /** @param {Worker} [worker] */
    constructor(worker?: Worker);
    /** @type {import("./card.js").Card | undefined} */
    card: import("./card.js").Card | undefined;
    /** What runs the network, in words. @type {string | undefined} */
    backend: string | undefined;
    /** @type {number | undefined} */
    overlap: number | undefined;
    /** @type {import("./segmenter.js").Accelerator | undefined} */
    accelerator: import("./segmenter.js").Accelerator | undefined;
    /** Addresses of what the worker has loaded. @type {string[]} */
    resources: string[];
    /**
     * Load a model; a worker that holds one keeps it when this fails.
     * @param {string | URL | Uint8Array | ArrayBuffer} model
     * @param {LoadOptions} [options]
     * @returns {Promise<void>}
     */
    load(model: string | URL | Uint8Array | ArrayBuffer, options?: LoadOptions): Promise<void>;
    /**
     * Give every pixel of an image a class; an ImageBitmap or a VideoFrame is used up.
     * @param {Picture} image
     * @param {{scores?: boolean, confidence?: boolean}} [options]
     * @returns {Promise<Result>}
     */
    segment(image: Picture, { scores, confidence }?: {
        scores?: boolean;
        confidence?: boolean;
    }): Promise<Result>;
    close(): void;
    #private;
}
export type LoadOptions = import("./segmenter.js").LoadOptions;
export type Picture = import("./segmenter.js").Picture;
export type Result = import("./segmenter.js").Result;
