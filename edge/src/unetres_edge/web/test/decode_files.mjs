// Check and decode image files in Node as the page does, for comparison with Python: node decode_files.mjs JOBS.json
// JOBS: {files: [[path, stacked]], hash: path, regions: {raw, width, height, classes}, out}

import { readFileSync, writeFileSync } from "node:fs";
import { checkFile } from "../files.js";
import { countRegions } from "../regions.js";
import { sha256 } from "../sha256.js";
import { isTiff, readTiff } from "../tiff.js";

const { files, hash, regions, out } = JSON.parse(readFileSync(process.argv[2]));
const report = { files: [] };
for (const [path, stacked] of files) {
  const data = new Uint8Array(readFileSync(path));
  try {
    if (!isTiff(data)) {
      checkFile(data, path);
      report.files.push({ pages: [] });
      continue;
    }
    const { count, read } = readTiff(data, { stacked });
    const pages = [];
    for (let page = 0; page < count; page++) {
      const { data: values, width, height, channels } = await read(page);
      writeFileSync(`${path}.${page}.raw`, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
      pages.push({ width, height, channels, bits: 8 * values.BYTES_PER_ELEMENT });
    }
    report.files.push({ pages });
  } catch (error) {
    report.files.push({ error: error.toJSON ? error.toJSON() : { message: `${error.stack}` } });
  }
}
report.hashes = hash.map((path) => Buffer.from(sha256(new Uint8Array(readFileSync(path)))).toString("hex"));
report.regions = countRegions({ ...regions, classMap: new Uint8Array(readFileSync(regions.raw)) }, regions.classes);
writeFileSync(out, JSON.stringify(report));
