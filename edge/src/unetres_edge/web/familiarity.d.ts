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
 */
/**
 * Say how familiar a prepared picture is, and in words why it is not, if so; null where the card cannot tell.
 * @param {Familiarity | null | undefined} known
 * @param {{data: Uint8Array, height: number, width: number, channels: number}} image
 * @param {boolean} bgr whether blue comes first
 * @returns {{familiarity: number | null, warnings: string[]}}
 */
export function judge(known: Familiarity | null | undefined, image: {
    data: Uint8Array;
    height: number;
    width: number;
    channels: number;
}, bgr: boolean): {
    familiarity: number | null;
    warnings: string[];
};
/** Refuse statistics that cannot be meant, by calling `need` with false. */
export function checkFamiliarity(known: any, need: any): void;
/** The features of a picture, in the order of their names. */
export function pictureFeatures({ data, height, width, channels }: {
    data: any;
    height: any;
    width: any;
    channels: any;
}, bgr?: boolean): number[];
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
};
