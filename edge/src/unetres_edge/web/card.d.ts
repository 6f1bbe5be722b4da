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
export function readCard(data: Uint8Array, file?: string): Promise<Card>;
/**
 * What the graph takes and gives: its first input and output, and how many there are of each.
 * @param {Uint8Array} data the file's bytes
 * @returns {{counts: number[], input: Tensor, output: Tensor}}
 */
export function readTensors(data: Uint8Array): {
    counts: number[];
    input: Tensor;
    output: Tensor;
};
export const FLOAT32: 0;
export const INT32: 2;
export const UINT8: 3;
export const INT8: 9;
/**
 * How images meet the network.
 */
export type Preprocessing = {
    channels: number;
    color_order: "rgb" | "bgr";
    value_range: [number, number];
    mean: number[];
    std: number[];
    per_image: [number, number] | null;
    fit: "crop" | "resize" | "letterbox";
    /**
     * (height, width) of the network's input in px
     */
    size: [number, number];
};
/**
 * What makes the probabilities of a file right: those of scores / temperature + bias (unetres_edge.model.calibration).
 */
export type Calibration = {
    temperature: number;
    /**
     * one a class, or none
     */
    bias: number[];
    images: number;
    split: string;
};
/**
 * What a model file says about itself.
 */
export type Card = {
    schema: 1;
    task: "segment" | "classify";
    classes: {
        name: string;
        color: [number, number, number];
    }[];
    preprocessing: Preprocessing;
    head: "logits" | "argmax";
    ignore_index: number | null;
    background?: number | undefined;
    halo: number;
    stride?: number | undefined;
    /**
     * px of each side of the input that have no output
     */
    crop?: number | undefined;
    activation?: "none" | "softmax" | "sigmoid" | undefined;
    calibration?: Calibration | null | undefined;
    familiarity?: import("./familiarity.js").Familiarity | null | undefined;
    recipe: string;
    scores: Record<string, unknown>;
    dataset: Record<string, unknown>;
    versions: Record<string, string>;
    resealed?: number | undefined;
    sha256: string;
};
/**
 * A tensor of the graph.
 */
export type Tensor = {
    type: number;
    shape: number[];
    scale: number;
    zeroPoint: number;
};
