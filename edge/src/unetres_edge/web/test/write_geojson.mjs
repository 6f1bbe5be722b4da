// Write class maps as GeoJSON, for comparison with Python: node write_geojson.mjs JOBS.json
// JOBS: {classes: [{name, color}], maps: [{raw, width, height, out}]}

import { readFileSync, writeFileSync } from "node:fs";
import { geoJSONText, toGeoJSON } from "../vector.js";

const { classes, maps } = JSON.parse(readFileSync(process.argv[2]));
for (const { raw, width, height, out } of maps) {
  const classMap = new Uint8Array(readFileSync(raw));
  writeFileSync(out, geoJSONText(toGeoJSON({ classMap, width, height }, classes)));
}
