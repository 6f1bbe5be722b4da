// Class maps as polygons with holes, as GeoJSON (unetres_edge.results.vector), equal to its files in every byte.
//
// A polygon runs along the cracks between pixels, so its corners are whole numbers. A region hangs together by the sides
// of its pixels. No ring touches itself; two rings may touch in points.

import { findBackground } from "./background.js";

const STEP = [[1, 0], [0, 1], [-1, 0], [0, -1]]; // right, down, left, up along a crack, the region on the right hand

/** @typedef {{classMap: Uint8Array, width: number, height: number}} ClassMap */
/** @typedef {[number, number]} Corner x and y in px */
/** @typedef {{type: "Feature", properties: object, geometry: {type: "Polygon", coordinates: Corner[][]}}} Feature */

/**
 * Trace the regions of every class but the background.
 * @param {ClassMap} result
 * @param {{name: string, color: number[]}[]} classes
 * @param {number} [background] the class that is not traced
 * @returns {{type: "FeatureCollection", features: Feature[]}} x to the right, y down, pixel corners at whole numbers
 */
export function toGeoJSON(result, classes, background = findBackground(classes)) {
  const features = classes.flatMap(({ name, color }, id) => {
    const regions = id === background ? [] : polygons(result, id);
    return regions.map(({ rings, area }) => ({
      type: /** @type {const} */ ("Feature"),
      properties: { class_id: id, class: name, color: `#${color.map(hex).join("")}`, area_px: area },
      geometry: { type: /** @type {const} */ ("Polygon"), coordinates: rings.map((ring) => [...ring, ring[0]]) },
    }));
  });
  return { type: "FeatureCollection", features };
}

/**
 * Return GeoJSON as the text of the file that `unetres-edge predict --geojson` writes.
 * @param {object} value
 */
export function geoJSONText(value) {
  return `${JSON.stringify(value, null, 2).replace(/[\u007f-\uffff]/g, escaped)}\n`;
}

const hex = (level) => level.toString(16).padStart(2, "0");
const escaped = (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`;

/** Return the regions of a class from the top down: the outer ring and the holes of each, and its area in px. */
function polygons(result, id) {
  if (!result.classMap.includes(id)) return [];
  const { rings, borders } = trace(result, id);
  const areas = rings.map(twiceArea);
  const regions = rings.map((ring, n) => ({ rings: [ring], area: areas[n] / 2 }));
  // From the top down: a hole's region is that of the border to the left of the pixel above its first corner.
  const holes = rings.map((_, n) => n).filter((n) => areas[n] < 0);
  const owner = new Map();
  for (const n of [...holes].sort((a, b) => top(rings[a]) - top(rings[b]))) {
    const [x, y] = topLeft(rings[n]);
    let at = (y - 1) * (result.width + 1) + x;
    while (borders[at] < 0) at--;
    owner.set(n, owner.get(borders[at]) ?? borders[at]);
  }
  for (const n of holes) {
    const region = regions[owner.get(n)];
    region.rings.push(rings[n]);
    region.area += areas[n] / 2;
  }
  return regions.filter((_, n) => areas[n] > 0);
}

/**
 * Return the border of a class as closed rings of corners, and for each crack that a ring passes upwards which one it is.
 *
 * The class lies to the right of the way: outer rings run clockwise as one sees the image, holes counter-clockwise. Where
 * two pixels touch by a corner the way stays with the pixel it came along, and a ring that comes to a point twice is
 * parted there.
 * @param {ClassMap} result
 * @param {number} id
 */
function trace({ classMap, width, height }, id) {
  const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && classMap[y * width + x] === id;
  // Whether a step leaves the corner (x, y): the pixel to its right is of the class, and the one to its left is not.
  const leaves = [
    (x, y) => inside(x, y) && !inside(x, y - 1),
    (x, y) => inside(x - 1, y) && !inside(x, y),
    (x, y) => inside(x - 1, y - 1) && !inside(x - 1, y),
    (x, y) => inside(x, y - 1) && !inside(x - 1, y - 1),
  ];
  const side = width + 1;
  const seen = new Uint8Array(4 * side * (height + 1));
  /** @type {Corner[][]} */
  const rings = [];
  const borders = new Int32Array(side * height).fill(-1);
  for (let first = 0; first < seen.length; first++) {
    let [way, x, y] = [first % 4, (first >> 2) % side, Math.floor((first >> 2) / side)];
    if (seen[first] || !leaves[way](x, y)) continue;
    /** @type {Corner[]} */
    const corners = [];
    const places = new Map();
    for (let before = -1, at = first; !seen[at]; at = 4 * (y * side + x) + way) {
      seen[at] = 1;
      if (way !== before) {
        const place = places.get(at >> 2);
        if (place !== undefined) {
          const parted = corners.splice(place);
          for (const [left, upper] of parted) places.delete(upper * side + left);
          rings.push(parted);
        }
        places.set(at >> 2, corners.length);
        corners.push([x, y]);
      }
      before = way;
      x += STEP[way][0];
      y += STEP[way][1];
      way = [1, 0, 3].map((turn) => (way + turn) % 4).find((next) => leaves[next](x, y)) ?? way; // to the right first
    }
    rings.push(corners);
  }
  rings.forEach((ring, n) => ring.forEach(([x, y], i) => {
    for (let row = y - 1; row >= ring[(i + 1) % ring.length][1]; row--) borders[row * side + x] = n;
  }));
  return { rings, borders };
}

const topLeft = (ring) => ring.reduce((best, corner) => {
  const [x, y] = corner;
  return y < best[1] || (y === best[1] && x < best[0]) ? corner : best;
});

const top = (ring) => topLeft(ring)[1];

/** Twice the signed area: above 0 clockwise, as one sees the image. */
const twiceArea = (ring) => ring.reduce((sum, [x, y], i) => {
  const [nextX, nextY] = ring[(i + 1) % ring.length];
  return sum + x * nextY - nextX * y;
}, 0);
