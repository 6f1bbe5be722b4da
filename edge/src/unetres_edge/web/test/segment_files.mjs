// Segment raw images in Node and write what comes out, for comparison with Python: node segment_files.mjs JOBS.json
// JOBS: [{model, images: [{raw, width, height, channels, bits, scores, confidence, out}]}]; an error is written as JSON to `out`.

import { readFileSync, writeFileSync } from "node:fs";
import { Segmenter } from "../segmenter.js";
import { encodeClassMap } from "../png.js";
import { geoJSONText, toGeoJSON } from "../vector.js";

console.log = console.info = console.warn = () => {};
for (const { model, images, error } of JSON.parse(readFileSync(process.argv[2]))) {
  let segmenter;
  try {
    segmenter = await Segmenter.load(new Uint8Array(readFileSync(model)), { name: model });
  } catch (problem) {
    writeFileSync(error, JSON.stringify({ ...problem.toJSON(), line: problem.toString() }));
    continue;
  }
  const { card } = segmenter;
  for (const { raw, width, height, channels, bits, out, scores, confidence } of images) {
    try {
      const bytes = new Uint8Array(readFileSync(raw));
      const data = bits === 16 ? new Uint16Array(bytes.buffer) : bytes;
      const result = await segmenter.segment({ data, width, height, channels }, { scores, confidence });
      writeFileSync(`${out}.labels`, result.classMap);
      if (result.scores) writeFileSync(`${out}.scores`, result.scores);
      writeFileSync(`${out}.familiarity`, JSON.stringify([result.familiarity, result.warnings, result.doubt, result.quality]));
      if (result.confidence) writeFileSync(`${out}.confidence`, result.confidence);
      writeFileSync(`${out}.geojson`, geoJSONText(toGeoJSON(result, card.classes, card.background)));
      const png = await encodeClassMap(result, card.classes.map(({ color }) => color));
      writeFileSync(`${out}.png`, new Uint8Array(await png.arrayBuffer()));
    } catch (problem) {
      writeFileSync(`${out}.error`, JSON.stringify(problem.toJSON()));
    }
  }
  segmenter.close();
}
