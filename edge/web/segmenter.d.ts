export type Accelerator = "wasm" | "webgpu";

export interface LoadOptions {
  /** What runs the network; "wasm" unless given. */
  accelerator?: Accelerator;
  /** Pixels shared by neighbouring tiles; the halo, at most a quarter of the tile, unless given. */
  overlap?: number;
  /** A folder laid out as the npm package @litertjs/core; "litert/" beside this module, in Node the installed package. */
  litert?: string | URL;
  /** Several threads; where the page is cross-origin isolated unless given. */
  threads?: boolean;
  /** How errors name the file. */
  name?: string;
}

/** Pixels without a canvas: (height, width, channels), grey or RGB or opaque RGBA. */
export interface RawImage {
  data: Uint8Array | Uint8ClampedArray | Uint16Array;
  width: number;
  height: number;
  /** 4 unless given. */
  channels?: number;
}

export type Picture = ImageData | RawImage | HTMLImageElement | HTMLVideoElement | HTMLCanvasElement | ImageBitmap | VideoFrame;

export interface Result {
  /** (height, width) class ids, at the image's own size. */
  classMap: Uint8Array;
  width: number;
  height: number;
  /** (height, width, classes) scores before the argmax, where asked for. */
  scores?: Float32Array;
  /** Milliseconds by stage. */
  timing: { prepare: number; infer: number; post: number; total: number };
}

export interface Card {
  schema: 1;
  task: "segment" | "classify";
  classes: { name: string; color: [number, number, number] }[];
  preprocessing: {
    channels: number;
    color_order: "rgb" | "bgr";
    value_range: [number, number];
    mean: number[];
    std: number[];
    per_image: [number, number] | null;
    fit: "crop" | "resize" | "letterbox";
    size: [number, number];
  };
  head: "logits" | "argmax";
  ignore_index: number | null;
  halo: number;
  recipe: string;
  scores: Record<string, unknown>;
  dataset: Record<string, unknown>;
  versions: Record<string, string>;
  sha256: string;
}

export class Segmenter {
  static load(model: string | URL | Uint8Array | ArrayBuffer, options?: LoadOptions): Promise<Segmenter>;
  readonly card: Card;
  readonly overlap: number;
  readonly backend: string;
  segment(image: Picture, options?: { scores?: boolean }): Promise<Result>;
  close(): void;
}

/** Read the card of a model file after checking its digest. */
export function readCard(data: Uint8Array, file?: string): Promise<Card>;

export class UnetresError extends Error {
  readonly code: string;
  readonly file?: string;
  readonly expected?: unknown;
  readonly found?: unknown;
  readonly fix?: string;
  toString(): string;
}
export class UsageError extends UnetresError {}
export class ImageError extends UnetresError {}
export class ModelError extends UnetresError {}
export class ModelDamagedError extends ModelError {}
export class CardMissingError extends ModelError {}
export class FileSystemError extends UnetresError {}
