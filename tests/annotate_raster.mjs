// Runs of strokes as the page computes them: node annotate_raster.mjs RASTER.JS JOBS.json OUT.json
// A job: {tool, points, size, width, height, level}, or {values, width, height, seed} for a fill.

import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [raster, jobs, out] = process.argv.slice(2);
const { fillRuns, gridOf, runsOf } = await import(pathToFileURL(raster));
const done = JSON.parse(readFileSync(jobs)).map(({ tool, points, size, width, height, level, values, seed }) =>
  (values ? fillRuns(values, width, height, ...seed) : runsOf(tool, points, size, gridOf(width, height, level)))
    .map(({ y, begin, end }) => [y, begin, end]));
writeFileSync(out, JSON.stringify(done));
