// @ts-nocheck: it puts into Node what browsers have
// What LiteRT.js, which is written for browsers, lacks in Node: a loader of scripts, and fetch of files.

import { readFile } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";
import vm from "node:vm";

/** Import LiteRT.js and say where its WebAssembly lies; `base` is null for the installed npm package. */
export async function importLiteRt(base) {
  const require = createRequire(import.meta.url);
  const index = base === null ? pathToFileURL(require.resolve("@litertjs/core")) : new URL("dist/index.js", base);
  globalThis.self ??= globalThis;
  globalThis.navigator ??= {};
  globalThis.importScripts ??= (...urls) => {
    for (const url of urls) {
      const filename = fileURLToPath(url);
      vm.runInThisContext(readFileSync(filename, "utf8"), { filename });
    }
  };
  const { fetch } = globalThis;
  globalThis.fetch = async (url, options) =>
    `${url}`.startsWith("file:")
      ? new Response(await readFile(fileURLToPath(`${url}`)), { headers: { "Content-Type": "application/wasm" } })
      : fetch(url, options);
  globalThis.require = require;
  globalThis.__dirname = fileURLToPath(new URL("../wasm", index));
  return [await import(index.href), new URL("../wasm/", index).href];
}
