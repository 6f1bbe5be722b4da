// Time the page and its segmenter in a real browser: node bench.mjs JOB.json; prints JSON.
// JOB: {url, chromium, image, count}

import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const { url, chromium: executablePath, image, count } = JSON.parse(readFileSync(process.argv[2]));
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const page = await browser.newPage();
const begin = performance.now();
await page.goto(url);
await page.waitForFunction(() => document.getElementById("status").textContent === "Ready.", null, { timeout: 60_000 });
const ready = performance.now() - begin;
await page.setInputFiles("#file", image);
await page.waitForFunction(() => !document.getElementById("mask").disabled, null, { timeout: 60_000 });
const first = performance.now() - begin;
const steady = async (threads) => page.evaluate(async ([base64, times, several]) => {
  const { WorkerSegmenter } = await import("./client.js");
  const segmenter = await WorkerSegmenter.load("model.tflite", { threads: several });
  const bitmap = await createImageBitmap(await (await fetch(`data:image/png;base64,${base64}`)).blob());
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const pixels = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const found = [];
  for (let n = 0; n < times + 2; n++) {
    const start = performance.now();
    const { timing } = await segmenter.segment(pixels);
    if (n >= 2) found.push({ total: performance.now() - start, infer: timing.infer });
  }
  segmenter.close();
  return found;
}, [readFileSync(image).toString("base64"), count, threads]);
const result = { version: browser.version(), ready, first, threads: await steady(true), single: await steady(false) };
await browser.close();
console.log(JSON.stringify(result));
