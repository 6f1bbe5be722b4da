/**
 * Statistics of the features of training pictures, and the distances of held-out ones.
 * @typedef {object} Familiarity
 * @property {string[]} features
 * @property {number[]} mean
 * @property {number[]} spread
 * @property {number[]} low
 * @property {number[]} high
 * @property {number[][]} whiten
 * @property {number[]} distances
 * @property {number} images
 * @property {number} [window] px; 64 in older cards
 * @property {number[]} [doubts] of the network about the held-out pictures, each 0 to 65535
 * @property {number[]} [borders] doubts of the network at the borders of regions, in the same order
 * @property {number[][]} [pictures] of training pictures, features less their mean, in sixteenths of a spread
 * @property {number} [held_out] pictures that the network was not trained on
 * @property {QualityTrees | null} [quality] trees that tell the mIoU to expect of a mask
 */
/**
 * Trees of one depth over whole numbers (unetres_edge.model.quality).
 * @typedef {object} QualityTrees
 * @property {number} inputs how many numbers are told of a picture
 * @property {number[][]} splits of each tree from the top down: the place of a number and the limit above which it goes right
 * @property {number[][]} leaves of each tree from left to right, mIoU in ten-thousandths
 * @property {number[]} held_out what is expected of each held-out picture
 */
/**
 * What a network says of one image, in whole numbers (unetres_edge.results.doubt).
 * @typedef {object} Doubts
 * @property {number} inside mean doubt inside of regions, 0 to 65535
 * @property {number} border mean doubt at borders
 * @property {number} atBorders share of the pixels that are at borders, of 65535
 * @property {number} overlap expected mIoU by the two likeliest classes of each pixel, of 65535
 */
/**
 * Say how familiar a picture is, and in words why it is not, if so; null where the card cannot tell.
 * @param {Familiarity | null | undefined} known
 * @param {number[] | null} features as `featuresOf` gives them
 * @param {Doubts | null} doubts of the network; null where they are not told
 * @returns {{familiarity: number | null, warnings: string[], quality: number | null}} with the mIoU to expect of the mask,
 *   null where the card cannot tell
 */
export function judge(known: Familiarity | null | undefined, features: number[] | null, doubts: Doubts | null): {
    familiarity: number | null;
    warnings: string[];
    quality: number | null;
};
/**
 * The features of a prepared picture; null where the card cannot judge them.
 * @param {Familiarity | null | undefined} known
 * @param {{data: Uint8Array, height: number, width: number, channels: number}} image
 * @param {boolean} bgr whether blue comes first
 * @returns {number[] | null}
 */
export function featuresOf(known: Familiarity | null | undefined, image: {
    data: Uint8Array;
    height: number;
    width: number;
    channels: number;
}, bgr: boolean): number[] | null;
/** Refuse statistics that cannot be meant, by calling `need` with false. */
export function checkFamiliarity(known: any, need: any): void;
/** The features of a picture, in the order of their names. */
export function pictureFeatures({ data, height, width, channels }: {
    data: any;
    height: any;
    width: any;
    channels: any;
}, bgr?: boolean, window?: number): number[];
/** The doubt of a network about one image, added up as its rows are done. */
export class Doubt {
    /**
     * @param {number} height
     * @param {number} width
     * @param {{classes: unknown[], activation?: string, calibration?: {temperature: number, bias: number[]} | null}} card
     */
    constructor(height: number, width: number, { classes, activation, calibration }: {
        classes: unknown[];
        activation?: string;
        calibration?: {
            temperature: number;
            bias: number[];
        } | null;
    });
    step: number;
    width: number;
    activation: string;
    calibration: {
        temperature: number;
        bias: number[];
    } | null | undefined;
    classes: number;
    /**
     * Take a row of scores; those between the rows that are looked at are passed over.
     * @param {number} row
     * @param {Float32Array} scores
     * @param {number} at where those of the row begin
     */
    add(row: number, scores: Float32Array, at: number): void;
    /**
     * What is told of the image, of all the rows so far.
     * @returns {Doubts}
     */
    get values(): Doubts;
    #private;
}
/**
 * Statistics of the features of training pictures, and the distances of held-out ones.
 */
export type Familiarity = {
    features: string[];
    mean: number[];
    spread: number[];
    low: number[];
    high: number[];
    whiten: number[][];
    distances: number[];
    images: number;
    /**
     * px; 64 in older cards
     */
    window?: number | undefined;
    /**
     * of the network about the held-out pictures, each 0 to 65535
     */
    doubts?: number[] | undefined;
    /**
     * doubts of the network at the borders of regions, in the same order
     */
    borders?: number[] | undefined;
    /**
     * of training pictures, features less their mean, in sixteenths of a spread
     */
    pictures?: number[][] | undefined;
    /**
     * pictures that the network was not trained on
     */
    held_out?: number | undefined;
    /**
     * trees that tell the mIoU to expect of a mask
     */
    quality?: QualityTrees | null | undefined;
};
/**
 * Trees of one depth over whole numbers (unetres_edge.model.quality).
 */
export type QualityTrees = {
    /**
     * how many numbers are told of a picture
     */
    inputs: number;
    /**
     * of each tree from the top down: the place of a number and the limit above which it goes right
     */
    splits: number[][];
    /**
     * of each tree from left to right, mIoU in ten-thousandths
     */
    leaves: number[][];
    /**
     * what is expected of each held-out picture
     */
    held_out: number[];
};
/**
 * What a network says of one image, in whole numbers (unetres_edge.results.doubt).
 */
export type Doubts = {
    /**
     * mean doubt inside of regions, 0 to 65535
     */
    inside: number;
    /**
     * mean doubt at borders
     */
    border: number;
    /**
     * share of the pixels that are at borders, of 65535
     */
    atBorders: number;
    /**
     * expected mIoU by the two likeliest classes of each pixel, of 65535
     */
    overlap: number;
};
