// The regions of a suggestion that are in sight: those that can be accepted, rejected or given a class one by one.

import { fillRuns, gridOf } from "./raster.js";
import { TILE } from "./view.js";

/** @typedef {import("./raster.js").Box} Box */

/**
 * @typedef {object} Region
 * @property {number} class
 * @property {[number, number]} point the middle of a pixel of it
 * @property {Box} box
 * @property {number} area px, as far as it is in sight
 * @property {number | null} sure 0 to 1
 * @property {import("./raster.js").Run[]} runs on its level
 * @property {number} level
 */

const LEAST = 16; // pixels of the level

/**
 * Find the regions where nothing is painted and something other than background is suggested, from top to bottom.
 * @param {import("./tiles.js").LabelTiles} labels
 * @param {import("./view.js").View} view
 * @param {"network" | "forest"} layer
 * @returns {Region[]}
 */
export function findRegions(labels, view, layer) {
  const level = view.level;
  const grid = gridOf(view.width, view.height, level);
  const { step } = grid;
  const [left, top, right, bottom] = [...view.box.slice(0, 2).map((value) => Math.floor(value / step)), ...view.box.slice(2).map((value) => Math.ceil(value / step))];
  const [width, height] = [right - left, bottom - top];
  if (width < 1 || height < 1) return [];
  const values = new Uint8Array(width * height);
  const sure = new Uint8Array(width * height);
  let known = false;
  for (const { tx, ty } of view.tiles(level)) {
    const tile = labels.get(layer, level, tx, ty);
    const painted = labels.get("classes", level, tx, ty)?.data;
    const confidence = layer === "network" ? labels.get("confidence", level, tx, ty)?.data : null;
    known ||= !!confidence;
    if (!tile?.data) continue;
    for (let y = Math.max(top, ty * TILE); y < Math.min(bottom, ty * TILE + tile.height); y++) {
      for (let x = Math.max(left, tx * TILE); x < Math.min(right, tx * TILE + tile.width); x++) {
        const from = (y - ty * TILE) * tile.width + x - tx * TILE;
        const value = tile.data[from];
        if (value === 255 || (painted && painted[from] !== 255)) continue;
        const to = (y - top) * width + x - left;
        values[to] = value;
        sure[to] = confidence ? confidence[from] : 0;
      }
    }
  }
  /** @type {Region[]} */
  const regions = [];
  const seen = new Uint8Array(width * height);
  for (let at = 0; at < values.length; at++) {
    if (!values[at] || seen[at]) continue;
    const found = fillRuns(values, width, height, at % width, Math.floor(at / width), seen);
    const count = found.reduce((sum, run) => sum + run.end - run.begin, 0);
    if (count < LEAST) continue;
    let total = 0;
    const box = [Infinity, Infinity, -Infinity, -Infinity];
    for (const { y, begin, end } of found) {
      for (let x = begin; x < end; x++) total += sure[y * width + x];
      box[0] = Math.min(box[0], begin);
      box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], end);
      box[3] = Math.max(box[3], y + 1);
    }
    const [x0, y0, x1, y1] = box;
    regions.push({
      class: values[at],
      point: [grid.centre(at % width + left), grid.centre(Math.floor(at / width) + top)],
      box: [(x0 + left) * step, (y0 + top) * step, (x1 + left) * step, (y1 + top) * step],
      area: count * step * step,
      sure: known ? total / count / 255 : null,
      runs: found.map(({ y, begin, end }) => ({ y: y + top, begin: begin + left, end: end + left })),
      level,
    });
  }
  return regions;
}

/**
 * Whether a pixel of the picture lies in a region.
 * @param {Region} region @param {number} x @param {number} y
 */
export function holds(region, x, y) {
  const [column, row] = [Math.floor(x / 2 ** region.level), Math.floor(y / 2 ** region.level)];
  return region.runs.some((run) => run.y === row && run.begin <= column && column < run.end);
}

/**
 * Where `drawRegion` draws, device px.
 * @param {import("./view.js").View} view @param {Region} region
 * @returns {Box}
 */
export function inkBox(view, { box: [left, top, right, bottom] }) {
  const rim = 8 * devicePixelRatio;
  const [[x0, y0], [x1, y1]] = [view.toCanvas(left, top), view.toCanvas(right, bottom)];
  return [x0 - rim, y0 - rim, x1 + rim, y1 + rim];
}

/**
 * Show which region is meant.
 * @param {CanvasRenderingContext2D} context @param {import("./view.js").View} view @param {Region} region
 */
export function drawRegion(context, view, region) {
  const step = 2 ** region.level;
  context.fillStyle = "#ffffff59";
  for (const { y, begin, end } of region.runs) {
    const [left, top] = view.toCanvas(begin * step, y * step).map(Math.round);
    const [right, bottom] = view.toCanvas(end * step, (y + 1) * step).map(Math.round);
    context.fillRect(left, top, right - left, bottom - top);
  }
  const gap = 5 * devicePixelRatio;
  const [left, top] = view.toCanvas(region.box[0], region.box[1]);
  const [right, bottom] = view.toCanvas(region.box[2], region.box[3]);
  const arm = Math.min(12 * devicePixelRatio, (right - left) / 3 + gap, (bottom - top) / 3 + gap);
  for (const [color, width] of /** @type {[string, number][]} */ ([["#000b", 4], ["#fff", 2]])) {
    Object.assign(context, { strokeStyle: color, lineWidth: width * devicePixelRatio });
    context.beginPath();
    for (const [x, y, dx, dy] of [[left - gap, top - gap, 1, 1], [right + gap, top - gap, -1, 1], [left - gap, bottom + gap, 1, -1], [right + gap, bottom + gap, -1, -1]]) {
      context.moveTo(x + dx * arm, y);
      context.lineTo(x, y);
      context.lineTo(x, y + dy * arm);
    }
    context.stroke();
  }
}
