// A program in TypeScript that uses the page's modules; checked by tsc with every strictness, never run.

import { WorkerSegmenter } from "../client.js";
import { Card, ImageError, LoadOptions, RawImage, Result, Segmenter, UnetresError, readCard } from "../segmenter.js";

const options: LoadOptions = { accelerator: "webgpu", overlap: 16, threads: false, name: "cells", litert: "/litert/" };
const image: RawImage = { data: new Uint8Array(12), width: 2, height: 2, channels: 3 };

export async function run(file: ArrayBuffer): Promise<number> {
  const card: Card = await readCard(new Uint8Array(file), "cells.tflite");
  const [height, width]: [number, number] = card.preprocessing.size;
  const segmenter = await Segmenter.load(file, options);
  try {
    const result: Result = await segmenter.segment(image, { scores: true });
    const scores: Float32Array | undefined = result.scores;
    const names: string[] = segmenter.card.classes.map(({ name }) => name);
    return result.classMap[0] + result.timing.infer + names.length + segmenter.overlap + height + width + (scores?.[0] ?? 0);
  } catch (error) {
    if (error instanceof ImageError) throw new UnetresError(error.message, { file: error.file, fix: error.fix });
    throw error;
  } finally {
    segmenter.close();
  }
}

export async function runInWorker(picture: ImageBitmap): Promise<Uint8Array> {
  const segmenter = await WorkerSegmenter.load(new URL("cells.tflite", location.href), options);
  const { classMap } = await segmenter.segment(picture);
  return classMap;
}

// @ts-expect-error there is no such accelerator
export const wrong: LoadOptions = { accelerator: "cuda" };
// @ts-expect-error a card is only read
export const change = (segmenter: Segmenter, card: Card) => { segmenter.card = card; };
