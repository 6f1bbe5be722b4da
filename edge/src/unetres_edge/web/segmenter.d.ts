export * from "./errors.js";
export { readCard } from "./card.js";
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
    /**
     * Verify and load a model file.
     * @param {string | URL | Uint8Array | ArrayBuffer} model where the .tflite lies, or its bytes
     * @param {LoadOptions} [options]
     * @returns {Promise<Segmenter>}
     */
    static load(model: string | URL | Uint8Array | ArrayBuffer, { accelerator, overlap, litert, threads, name }?: LoadOptions): Promise<Segmenter>;
    /**
     * Join a card and an engine; `Segmenter.load` does this for a file.
     * @param {Card} card
     * @param {Engine} engine
     * @param {number} overlap
     */
    constructor(card: Card, engine: Engine, overlap: number);
    /** @readonly */
    readonly card: import("./card.js").Card;
    /** @readonly */
    readonly overlap: number;
    /** What runs the network, in words. */
    get backend(): string;
    /**
     * Give every pixel of an image a class. Calls wait for each other.
     * @param {Picture} image
     * @param {{scores?: boolean, confidence?: boolean}} [options]
     * @returns {Promise<Result>}
     */
    segment(image: Picture, { scores, confidence }?: {
        scores?: boolean;
        confidence?: boolean;
    }): Promise<Result>;
    /** Free the model; `segment` refuses from then on. */
    close(): void;
    #private;
}
export type Card = import("./card.js").Card;
export type Accelerator = "wasm" | "webgpu";
export type LoadOptions = {
    /**
     * what runs the network; "wasm" unless given
     */
    accelerator?: Accelerator | undefined;
    /**
     * pixels shared by neighbouring tiles; the halo, at most a quarter of the tile, unless given
     */
    overlap?: number | undefined;
    /**
     * a folder laid out as LiteRT.js's npm package; "litert/" beside this module, in Node
     * the installed package, unless given
     */
    litert?: string | URL | undefined;
    /**
     * several threads; where the page is cross-origin isolated unless given
     */
    threads?: boolean | undefined;
    /**
     * how errors name the file
     */
    name?: string | undefined;
};
/**
 * Pixels without a canvas: (height, width, channels), grey or RGB or opaque RGBA.
 */
export type RawImage = {
    data: Uint8Array | Uint8ClampedArray | Uint16Array;
    width: number;
    height: number;
    /**
     * 4 unless given
     */
    channels?: number | undefined;
};
export type Picture = ImageData | RawImage | HTMLImageElement | HTMLVideoElement | HTMLCanvasElement | ImageBitmap | VideoFrame;
export type Result = {
    /**
     * (height, width) class ids, at the image's own size
     */
    classMap: Uint8Array;
    width: number;
    height: number;
    /**
     * (height, width, classes) scores before the argmax, where asked for
     */
    scores?: Float32Array<ArrayBufferLike> | undefined;
    /**
     * (height, width) the probability of each pixel's class, calibrated where the card says
     * how, where asked for
     */
    confidence?: Float32Array<ArrayBufferLike> | undefined;
    /**
     * share of held-out images as strange as this one: as unlike the training images, or as
     * much in doubt; null where the card cannot tell
     */
    familiarity: number | null;
    /**
     * where that is 0.05 or less, why, in words
     */
    warnings: string[];
    /**
     * bits a pixel that the network is unsure inside of regions, 0 to 1; null where the card does
     * not know what is usual
     */
    doubt: number | null;
    /**
     * mIoU that is to be expected of the class map, 0 to 1; null where the card cannot tell
     */
    quality: number | null;
    /**
     * milliseconds by stage
     */
    timing: {
        prepare: number;
        infer: number;
        post: number;
        total: number;
    };
};
/**
 * What runs the network.
 */
export type Engine = {
    /**
     * in words
     */
    backend: string;
    /**
     * that it ran
     */
    milliseconds: number;
    /**
     * one prepared tile to scores (h, w, classes) or labels (h, w)
     */
    run: (tile: {
        data: Uint8Array;
        height: number;
        width: number;
        channels: number;
    }) => Promise<Float32Array | Uint8Array>;
    close: () => void;
};
