// What happens to an image before the network sees it (unetres_edge.images.preprocessing), equal to it in every bit.

import { ImageError } from "./errors.js";

/** An image in the working form: (height, width, channels) uint8. */
const picture = (data, height, width, channels) => ({ data, height, width, channels });

/** Round half to even, as numpy and Python do. */
export function rint(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2) ? floor + 1 : floor;
}

/**
 * Bring an image to the working form, at its own size.
 * @param {{data: Uint8Array|Uint8ClampedArray|Uint16Array, width: number, height: number, channels?: number}} image
 *   channels is 4 (RGBA) as in ImageData where it is not given
 */
export function prepare(image, pre) {
  const { data, width, height } = image;
  const found = image.channels ?? 4;
  const count = width * height;
  if (!(count > 0) || data.length !== count * found) {
    throw new ImageError("array is not an image", { expected: `${width} x ${height} x ${found}`, found: data.length });
  }
  const full = data instanceof Uint16Array ? 65535 : 255;
  let colors = found;
  if (found === 4 && (pre.channels === 1 || pre.channels === 3)) {
    for (let i = 3; i < data.length; i += 4) {
      if (data[i] < full) throw new ImageError("image has transparent pixels, or a fourth channel", { fix: "flatten it onto a background" });
    }
    colors = image.channels === undefined && isGrey(data) ? 1 : 3; // a canvas makes colours of grey
  }
  if (colors !== pre.channels && !(colors === 1 && pre.channels === 3) && !(colors === 3 && pre.channels === 1)) {
    throw new ImageError("number of channels does not fit the model", { expected: pre.channels, found: colors });
  }
  const level = levels(data, count, found, colors, full, pre.per_image);
  const out = new Uint8Array(count * pre.channels);
  if (pre.channels === 1) {
    for (let i = 0, at = 0; i < count; i++, at += found) {
      out[i] = colors === 1
        ? level[data[at]]
        : Math.floor((299 * level[data[at]] + 587 * level[data[at + 1]] + 114 * level[data[at + 2]] + 500) / 1000);
    }
  } else {
    const last = pre.color_order === "bgr" && pre.channels === 3 ? pre.channels - 1 : 0;
    for (let i = 0, at = 0, to = 0; i < count; i++, at += found) {
      for (let c = 0; c < pre.channels; c++) {
        const from = last ? last - c : c;
        out[to++] = level[data[at + (colors === 1 ? 0 : from)]];
      }
    }
  }
  return picture(out, height, width, pre.channels);
}

function isGrey(data) {
  for (let i = 0; i < data.length; i += 4) {
    if (data[i] !== data[i + 1] || data[i] !== data[i + 2]) return false;
  }
  return true;
}

/** The uint8 level of each stored value. */
function levels(data, count, stride, colors, full, perImage) {
  const values = Float64Array.from({ length: full + 1 }, (_, value) => value);
  if (perImage === null) return Uint8Array.from(values, (value) => rint(value * (255 / full)));
  const counts = new Float64Array(full + 1);
  for (let i = 0; i < count; i++) for (let c = 0; c < colors; c++) counts[data[i * stride + c]]++;
  const [low, high] = perImage.map((percent) => percentile(counts, count * colors, percent));
  const spread = high > low ? high - low : full;
  return Uint8Array.from(values, (value) => rint(Math.min(Math.max((value - low) / spread, 0), 1) * 255));
}

/** numpy's percentile by linear interpolation, from a histogram. */
function percentile(counts, total, percent) {
  const position = (total - 1) * (percent / 100);
  const index = Math.floor(position);
  const [a, b] = [ranked(counts, index), ranked(counts, Math.min(index + 1, total - 1))];
  const t = position - index;
  return t >= 0.5 ? b - (b - a) * (1 - t) : a + (b - a) * t;
}

function ranked(counts, rank) {
  let value = 0;
  for (let seen = counts[0]; seen <= rank; seen += counts[value]) value++;
  return value;
}

/** One table of 256 float32 for each channel: what the network sees for each level. */
export function tables(pre) {
  const [low, high] = pre.value_range;
  const one = (list, channel) => list[list.length === 1 ? 0 : channel];
  return Array.from({ length: pre.channels }, (_, c) =>
    Float32Array.from({ length: 256 }, (_, k) => (low + ((high - low) * k) / 255 - one(pre.mean, c)) / one(pre.std, c)));
}

/**
 * How a whole image is put on the network's input: the part it fills, height and width.
 * @returns {[number, number]}
 */
export function placed(height, width, pre) {
  const [rows, columns] = pre.size;
  if (pre.fit === "resize") return [rows, columns];
  const scale = Math.min(rows / height, columns / width);
  return [Math.min(Math.max(1, rint(height * scale)), rows), Math.min(Math.max(1, rint(width * scale)), columns)];
}

/**
 * Scale to [height, width] as Pillow's bilinear filter does, and repeat the border pixels up to `canvas`.
 * The width is scaled first, then the height, each rounded to levels.
 */
export function scaleOnto(image, [height, width], canvas) {
  let { data, channels } = image;
  if (width !== image.width) data = resample(data, image.height, image.width, width, channels);
  if (height !== image.height) data = resampleRows(data, image.height, height, width * channels);
  const out = new Uint8Array(canvas[0] * canvas[1] * channels);
  for (let y = 0, to = 0; y < canvas[0]; y++) {
    const row = Math.min(y, height - 1) * width;
    for (let x = 0; x < canvas[1]; x++) {
      const from = (row + Math.min(x, width - 1)) * channels;
      for (let c = 0; c < channels; c++) out[to++] = data[from + c];
    }
  }
  return picture(out, ...canvas, channels);
}

const BITS = 22; // of Pillow's fixed-point weights

/**
 * Pillow's weights of a triangle that widens when an image shrinks (src/libImaging/Resample.c).
 * @returns {[number, number[]][]} for each pixel the first that counts, and the weights from there on
 */
function weights(from, to) {
  const scale = from / to;
  const support = Math.max(scale, 1);
  return Array.from({ length: to }, (_, index) => {
    const center = (index + 0.5) * scale;
    const first = Math.max(Math.trunc(center - support + 0.5), 0);
    const end = Math.min(Math.trunc(center + support + 0.5), from);
    const list = [];
    let sum = 0;
    for (let x = first; x < end; x++) {
      const weight = Math.max(0, 1 - Math.abs((x - center + 0.5) * (1 / support)));
      list.push(weight);
      sum += weight;
    }
    return [first, list.map((weight) => Math.trunc(0.5 + (weight / sum) * 2 ** BITS))];
  });
}

const clip8 = (sum) => Math.min(Math.max(sum >> BITS, 0), 255);

function resample(data, height, from, to, channels) {
  const out = new Uint8Array(height * to * channels);
  weights(from, to).forEach(([first, list], x) => {
    for (let y = 0; y < height; y++) {
      for (let c = 0; c < channels; c++) {
        let sum = 1 << (BITS - 1);
        for (let k = 0, at = (y * from + first) * channels + c; k < list.length; k++, at += channels) {
          sum += data[at] * list[k];
        }
        out[(y * to + x) * channels + c] = clip8(sum);
      }
    }
  });
  return out;
}

function resampleRows(data, from, to, row) {
  const out = new Uint8Array(to * row);
  weights(from, to).forEach(([first, list], y) => {
    for (let x = 0; x < row; x++) {
      let sum = 1 << (BITS - 1);
      for (let k = 0; k < list.length; k++) sum += data[(first + k) * row + x] * list[k];
      out[y * row + x] = clip8(sum);
    }
  });
  return out;
}
