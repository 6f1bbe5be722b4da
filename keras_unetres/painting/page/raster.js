// Which pixels a stroke covers: the same rule, in the same order of float64 operations, as keras_unetres.painting.raster.
// Pixel (x, y) has its centre at (x + 0.5, y + 0.5). On level k of a picture one pixel of each square of 2^k is seen, its first,
// so that a stroke is drawn there as the whole mask will be when it is seen from afar.

/**
 * A run of pixels of one row: columns `begin` to `end`, the latter left out.
 * @typedef {{y: number, begin: number, end: number}} Run
 * @typedef {[number, number]} Point
 * @typedef {[number, number, number, number]} Box left, top, right, bottom; the last two left out
 */

/**
 * The grid of pixels on which is drawn.
 * @typedef {object} Grid
 * @property {number} width in pixels of this level
 * @property {number} height
 * @property {number} step pixels of the picture from one to the next
 * @property {(at: number) => number} centre where the centres of a column or of a row lie
 */

/** Round to quarters of a pixel, as every point of a stroke is before it is used. @param {number} value */
export const quarter = (value) => Math.round(value * 4) / 4;

/**
 * Level `level` of a picture of that size.
 * @param {number} width
 * @param {number} height
 * @param {number} level
 * @returns {Grid}
 */
export function gridOf(width, height, level) {
  const step = 2 ** level;
  const centre = (/** @type {number} */ at) => at * step + 0.5;
  return { width: Math.ceil(width / step), height: Math.ceil(height / step), step, centre };
}

/**
 * Whether a pixel's centre lies within half of the size of a segment.
 * @param {number} px @param {number} py @param {Point} from @param {Point} to @param {number} radius2
 */
function near(px, py, from, to, radius2) {
  const dx = to[0] - from[0];
  const dy = to[1] - from[1];
  const length2 = dx * dx + dy * dy;
  let t = length2 > 0 ? ((px - from[0]) * dx + (py - from[1]) * dy) / length2 : 0;
  t = Math.min(Math.max(t, 0), 1);
  const ex = px - (from[0] + t * dx);
  const ey = py - (from[1] + t * dy);
  return ex * ex + ey * ey <= radius2;
}

/**
 * Where a row meets a thick segment, nearly: a little too far rather than too near. Null where it does not.
 * @param {number} py @param {Point} from @param {Point} to @param {number} radius
 * @returns {[number, number] | null}
 */
function reach(py, from, to, radius) {
  const wide = radius * (1 + 1e-9) + 1e-9;
  let [low, high] = [Infinity, -Infinity];
  for (const [x, y] of [from, to]) {
    const rest = wide * wide - (py - y) * (py - y);
    if (rest < 0) continue;
    low = Math.min(low, x - Math.sqrt(rest));
    high = Math.max(high, x + Math.sqrt(rest));
  }
  const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
  const length = Math.sqrt(dx * dx + dy * dy);
  if (length > 0) {
    // Inside the strip: |u dy - v dx| <= wide * length and 0 <= u dx + v dy <= length^2, where (u, v) is the pixel from `from`.
    const v = py - from[1];
    let [first, last] = [-Infinity, Infinity];
    for (const [slope, least, most] of [
      [dy, v * dx - wide * length, v * dx + wide * length],
      [dx, -v * dy, length * length - v * dy],
    ]) {
      if (slope === 0) {
        if (least > 0 || most < 0) return low <= high ? [low, high] : null;
      } else {
        first = Math.max(first, Math.min(least / slope, most / slope));
        last = Math.min(last, Math.max(least / slope, most / slope));
      }
    }
    if (first <= last) {
      low = Math.min(low, from[0] + first);
      high = Math.max(high, from[0] + last);
    }
  }
  return low <= high ? [low, high] : null;
}

/**
 * The runs of a brush of that diameter along a line; of one point, of a disc.
 * @param {Point[]} points
 * @param {number} size px
 * @param {Grid} grid
 * @returns {Run[]}
 */
export function brushRuns(points, size, grid) {
  const { width, height, step, centre } = grid;
  const radius = size / 2;
  const radius2 = radius * radius;
  /** @type {Map<number, [number, number][]>} */
  const rows = new Map();
  for (let at = 0; at < Math.max(points.length - 1, 1); at++) {
    const from = points[at];
    const to = points[at + 1] ?? from;
    const top = Math.max(0, Math.floor((Math.min(from[1], to[1]) - radius) / step) - 2);
    const bottom = Math.min(height - 1, Math.ceil((Math.max(from[1], to[1]) + radius) / step) + 1);
    for (let y = top; y <= bottom; y++) {
      const py = centre(y);
      const between = reach(py, from, to, radius);
      if (!between) continue;
      let begin = Math.max(0, Math.floor(between[0] / step) - 2);
      let end = Math.min(width, Math.ceil(between[1] / step) + 2);
      while (begin < end && !near(centre(begin), py, from, to, radius2)) begin++;
      while (end > begin && !near(centre(end - 1), py, from, to, radius2)) end--;
      if (begin >= end) continue;
      const row = rows.get(y);
      if (row) row.push([begin, end]);
      else rows.set(y, [[begin, end]]);
    }
  }
  /** @type {Run[]} */
  const runs = [];
  for (const [y, parts] of rows) {
    parts.sort((a, b) => a[0] - b[0]);
    let [begin, end] = parts[0];
    for (const part of parts) {
      if (part[0] > end) {
        runs.push({ y, begin, end });
        [begin, end] = part;
      } else end = Math.max(end, part[1]);
    }
    runs.push({ y, begin, end });
  }
  return runs;
}

/**
 * The runs of a closed polygon, by the even-odd rule at the centres of pixels.
 * @param {Point[]} points
 * @param {Grid} grid
 * @returns {Run[]}
 */
export function polygonRuns(points, grid) {
  const { width, height, step, centre } = grid;
  /** @type {Map<number, number[]>} */
  const rows = new Map();
  for (let at = 0; at < points.length; at++) {
    const [x1, y1] = points[at];
    const [x2, y2] = points[(at + 1) % points.length];
    if (y1 === y2) continue;
    const top = Math.max(0, Math.floor(Math.min(y1, y2) / step) - 2);
    const bottom = Math.min(height - 1, Math.ceil(Math.max(y1, y2) / step) + 1);
    for (let y = top; y <= bottom; y++) {
      const py = centre(y);
      if (y1 > py === y2 > py) continue;
      const crossing = (x2 - x1) * (py - y1) / (y2 - y1) + x1;
      const row = rows.get(y);
      if (row) row.push(crossing);
      else rows.set(y, [crossing]);
    }
  }
  /** @type {Run[]} */
  const runs = [];
  /** The first column whose centre is not left of a crossing. @param {number} crossing */
  const column = (crossing) => {
    let x = Math.min(Math.max(Math.floor(crossing / step) - 2, 0), width);
    while (x < width && centre(x) < crossing) x++;
    return x;
  };
  for (const [y, crossings] of rows) {
    crossings.sort((a, b) => a - b);
    for (let at = 0; at + 1 < crossings.length; at += 2) {
      const [begin, end] = [column(crossings[at]), column(crossings[at + 1])];
      if (begin < end) runs.push({ y, begin, end });
    }
  }
  return runs;
}

/**
 * The runs of what a tool draws; null for a tool whose outcome depends on what is painted already.
 * @param {string} tool
 * @param {Point[]} points
 * @param {number} size px
 * @param {Grid} grid
 */
export function runsOf(tool, points, size, grid) {
  if (tool === "brush") return brushRuns(points, size, grid);
  if (tool === "polygon" || tool === "lasso") return polygonRuns(points, grid);
  return null;
}

/**
 * The runs of the region of equal values around a pixel, connected by the sides of pixels.
 * @param {ArrayLike<number>} values row after row
 * @param {number} width
 * @param {number} height
 * @param {number} x
 * @param {number} y
 * @param {Uint8Array} [seen] pixels that are done with; those of the region are added
 * @returns {Run[]}
 */
export function fillRuns(values, width, height, x, y, seen = new Uint8Array(width * height)) {
  const value = values[y * width + x];
  /** @type {Run[]} */
  const runs = [];
  const open = [x, y];
  while (open.length) {
    const row = /** @type {number} */ (open.pop());
    const column = /** @type {number} */ (open.pop());
    const start = row * width;
    if (seen[start + column]) continue;
    let begin = column;
    let end = column + 1;
    while (begin > 0 && values[start + begin - 1] === value) begin--;
    while (end < width && values[start + end] === value) end++;
    seen.fill(1, start + begin, start + end);
    runs.push({ y: row, begin, end });
    for (const next of [row - 1, row + 1]) {
      if (next < 0 || next >= height) continue;
      const other = next * width;
      for (let at = begin; at < end; at++) {
        if (values[other + at] !== value || seen[other + at]) continue;
        open.push(at, next);
        while (at + 1 < end && values[other + at + 1] === value) at++;
      }
    }
  }
  return runs;
}
