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
 */
/**
 * Say how familiar a picture is, and in words why it is not, if so; null where the card cannot tell.
 * @param {Familiarity | null | undefined} known
 * @param {number[] | null} features as `featuresOf` gives them
 * @param {[number, number] | null} doubts of the network, inside of regions and at borders, 0 to 65535; null where they
 *   are not told
 * @returns {{familiarity: number | null, warnings: string[]}}
 */
export function judge(known: Familiarity | null | undefined, features: number[] | null, doubts: [number, number] | null): {
    familiarity: number | null;
    warnings: string[];
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
     * The means, 0 to 65535, inside of regions (of all pixels where there are none) and at borders (0 without any).
     * @returns {[number, number]}
     */
    get values(): [number, number];
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
};
