// Fixed-size tiles over an image of any size (unetres_edge.segment.tiles). Sums are rounded to float32 at every step, as numpy's.

export function tileOrigins(length, tile, overlap) {
  if (length <= tile) return [0];
  const origins = [];
  for (let at = 0; at < length - tile; at += tile - overlap) origins.push(at);
  return [...origins, length - tile];
}

function ramp(tile, overlap) {
  return Float32Array.from({ length: tile }, (_, i) => Math.min((Math.min(i, tile - 1 - i) + 1) / (overlap + 1), 1));
}

/** Mirror an image below and to the right where it is smaller than a tile. */
export function padToTile(image, [rows, columns]) {
  const [height, width] = [Math.max(rows, image.height), Math.max(columns, image.width)];
  return height === image.height && width === image.width ? image : cut(image, 0, 0, height, width);
}

/** A part of an image, mirrored beside it. */
export function cut({ data, height, width, channels }, y, x, rows, columns) {
  const out = new Uint8Array(rows * columns * channels);
  for (let i = 0, to = 0; i < rows; i++) {
    const row = mirrored(y + i, height) * width;
    if (x >= 0 && x + columns <= width) {
      out.set(data.subarray((row + x) * channels, (row + x + columns) * channels), to);
      to += columns * channels;
      continue;
    }
    for (let j = 0; j < columns; j++) {
      const from = (row + mirrored(x + j, width)) * channels;
      for (let c = 0; c < channels; c++) out[to++] = data[from + c];
    }
  }
  return { data: out, height: rows, width: columns, channels };
}

function mirrored(at, length) {
  const period = 2 * (length - 1) || 1;
  const phase = Math.abs(at) % period;
  return phase < length ? phase : period - phase;
}

/** Yield [first row, rows, scores, columns] as tiles are finished; the array is reused. */
export async function* blendedRows(image, [height, width], overlap, classes, run) {
  const [rows, columns] = [windows(image.height, height, overlap), windows(image.width, width, overlap)];
  const line = image.width * classes;
  const total = new Float32Array(height * line);
  for (let n = 0; n < rows.length; n++) {
    const [y, down] = rows[n];
    for (const [x, across] of columns) {
      const values = await run(cut(image, y, x, height, width));
      for (let i = 0, from = 0; i < height; i++) {
        for (let j = 0, to = i * line + x * classes; j < width; j++) {
          const share = Math.fround(down[i] * across[j]);
          for (let c = 0; c < classes; c++) total[to++] += Math.fround(values[from++] * share);
        }
      }
    }
    const done = (rows[n + 1]?.[0] ?? y + height) - y;
    yield [y, done, total, image.width];
    total.copyWithin(0, done * line).fill(0, (height - done) * line);
  }
}

/** @returns {[number, Float32Array][]} origin and weights of each tile of an axis; the weights of each pixel sum to one */
function windows(length, tile, overlap) {
  const origins = tileOrigins(length, tile, overlap);
  const window = ramp(tile, overlap);
  const total = new Float32Array(length);
  for (const origin of origins) window.forEach((weight, i) => { total[origin + i] += weight; });
  return origins.map((origin) => [origin, window.map((weight, i) => weight / total[origin + i])]);
}

/** Yield [first row, rows, labels, columns], each tile cut in the middle of its overlaps. */
export async function* joinedRows(image, [height, width], overlap, run) {
  for (const [y, top, bottom] of cores(image.height, height, overlap)) {
    const strip = new Uint8Array((bottom - top) * image.width);
    for (const [x, left, right] of cores(image.width, width, overlap)) {
      const labels = await run(cut(image, y, x, height, width));
      for (let row = top; row < bottom; row++) {
        const from = (row - y) * width;
        strip.set(labels.subarray(from + left - x, from + right - x), (row - top) * image.width + left);
      }
    }
    yield [top, bottom - top, strip, image.width];
  }
}

/**
 * Yield [first row, rows, scores or labels, columns] by an unpadded network: parts that meet on the grid of its smallest
 * map, each seen with `crop` px of the mirrored image around it (Ronneberger 2015, figure 2).
 */
export async function* unpaddedRows(image, [height, width], crop, stride, run) {
  const [rows, columns] = [height, width].map((side) => Math.floor((side - 2 * crop) / stride) * stride);
  const wide = Math.ceil(image.width / columns) * columns;
  const across = width - 2 * crop;
  for (let y = 0; y < image.height; y += rows) {
    let strip = null;
    for (let x = 0; x < image.width; x += columns) {
      const values = await run(cut(image, y - crop, x - crop, height, width));
      const count = values.length / (across * (height - 2 * crop)); // classes, or 1 of labels
      strip ??= new values.constructor(rows * wide * count);
      for (let row = 0; row < rows; row++) {
        const from = row * across * count;
        strip.set(values.subarray(from, from + columns * count), (row * wide + x) * count);
      }
    }
    yield [y, rows, strip, wide];
  }
}

function cores(length, tile, overlap) {
  const origins = tileOrigins(length, tile, overlap);
  const cuts = origins.slice(1).map((next, i) => Math.floor((origins[i] + tile + next) / 2));
  const edges = [0, ...cuts, length];
  return origins.map((origin, i) => [origin, edges[i], edges[i + 1]]);
}

/** Yield [row, 1, scores, columns] of scores (rows, columns, classes) scaled up: bilinear, half-pixel centres. */
export function* resizedRows(values, stride, [rows, columns], height, width, classes) {
  const [down, across] = [steps(rows, height), steps(columns, width)];
  const line = new Float32Array(columns * classes);
  const scores = new Float32Array(width * classes);
  for (let y = 0; y < height; y++) {
    mix(line, values, down.low[y] * stride * classes, down.high[y] * stride * classes, 0, down.share[y], line.length);
    for (let x = 0; x < width; x++) {
      mix(scores, line, across.low[x] * classes, across.high[x] * classes, x * classes, across.share[x], classes);
    }
    yield [y, 1, scores, width];
  }
}

function mix(out, values, low, high, to, share, count) {
  const rest = Math.fround(1 - share);
  for (let i = 0; i < count; i++) {
    out[to + i] = Math.fround(values[low + i] * rest) + Math.fround(values[high + i] * share);
  }
}

function steps(from, to) {
  const [low, high, share] = [new Int32Array(to), new Int32Array(to), new Float32Array(to)];
  for (let i = 0; i < to && from !== to; i++) {
    const position = (i + 0.5) * (from / to) - 0.5;
    low[i] = Math.min(Math.max(Math.floor(position), 0), from - 1);
    high[i] = Math.min(low[i] + 1, from - 1);
    share[i] = Math.min(Math.max(position - low[i], 0), 1);
  }
  if (from === to) low.forEach((_, i) => { low[i] = high[i] = i; });
  return { low, high, share };
}
