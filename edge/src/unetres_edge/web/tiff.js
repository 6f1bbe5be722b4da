// TIFF, which browsers do not decode: 8 and 16 bits, page by page, as unetres_edge.images.tiff reads it.

import { ImageError } from "./errors.js";
import { checkSize } from "./files.js";

/** @typedef {{data: Uint8Array | Uint16Array, width: number, height: number, channels: number}} Picture */

const DAMAGED = "replace or remove the file";
const MAX_PAGES = 65536, MAX_CHANNELS = 16;
const SIZES = [0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4];
const PACKED = { 1: "none", 5: "LZW", 8: "deflate", 32773: "packbits", 32946: "deflate" };

/** @param {Uint8Array} data */
export function isTiff(data) {
  const start = String.fromCharCode(...data.subarray(0, 4));
  return ["II*\0", "MM\0*", "II+\0", "MM\0+"].includes(start);
}

/**
 * Read what a TIFF says of its images; pixels are decoded when they are asked for.
 * @param {Uint8Array} data the file
 * @param {{stacked?: boolean}} [options] whether the pages are channels of one image, whatever the file says
 * @returns {{count: number, read: (page: number) => Promise<Picture>}}
 */
export function readTiff(data, { stacked = false } = {}) {
  const little = data[0] === 0x49;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  if (view.getUint16(2, little) === 43) throw new ImageError("BigTIFF is not read by this page", { fix: "save it as TIFF" });
  return guarded(() => {
    const pages = [];
    const seen = new Set();
    for (let at = view.getUint32(4, little); at;) {
      if (seen.has(at)) throw new ImageError("TIFF is damaged: its pages go round in a circle", { fix: DAMAGED });
      if (pages.length === MAX_PAGES) throw new ImageError("TIFF has too many pages", { expected: `at most ${MAX_PAGES}` });
      seen.add(at);
      const tags = new Tags(view, at, little);
      pages.push(tags);
      at = view.getUint32(tags.end, little);
    }
    if (!pages.length) throw new ImageError("TIFF has no pages", { fix: DAMAGED });
    const about = pages[0].text(270);
    const images = pages.length === 1 ? imagesOfStack(about) : 1;
    const read = async (number) => decode(data, pages.length > 1 ? pages[number] : pages[0], little, pages.length > 1 ? 0 : number, images);
    const count = pages.length > 1 ? pages.length : images;
    if (count > 1 && (stacked || countChannels(about) === count)) {
      return { count: 1, read: async () => joined(await Promise.all(Array.from({ length: count }, (_, i) => read(i)))) };
    }
    return { count, read };
  });
}

/** Run a step of reading; leaving the file is damage. */
function guarded(step) {
  try {
    return step();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new ImageError("TIFF is damaged: its tags lie outside the file", { fix: DAMAGED });
  }
}

/** The tags of one page. */
class Tags {
  constructor(view, at, little) {
    this.view = view;
    this.little = little;
    this.entries = new Map();
    const count = view.getUint16(at, little);
    for (let i = 0, place = at + 2; i < count; i++, place += 12) this.entries.set(view.getUint16(place, little), place);
    this.end = at + 2 + 12 * count;
  }

  has(tag) {
    return this.entries.has(tag);
  }

  /** Where the values of a tag lie: type, number, first byte. */
  span(tag) {
    const place = this.entries.get(tag);
    const [kind, count] = [this.view.getUint16(place + 2, this.little), this.view.getUint32(place + 4, this.little)];
    const bytes = (SIZES[kind] ?? 0) * count;
    const at = bytes > 4 ? this.view.getUint32(place + 8, this.little) : place + 8;
    if (at + bytes > this.view.byteLength) throw new RangeError("values outside the file");
    return [kind, count, at];
  }

  all(tag, usual = []) {
    if (!this.has(tag)) return usual;
    const [kind, count, at] = this.span(tag);
    const read = { 1: "getUint8", 3: "getUint16", 4: "getUint32", 13: "getUint32" }[kind];
    if (!read) return usual;
    return Array.from({ length: count }, (_, i) => this.view[read](at + i * SIZES[kind], this.little));
  }

  one(tag, usual = 0) {
    return this.all(tag)[0] ?? usual;
  }

  text(tag) {
    if (!this.has(tag)) return "";
    const [, count, at] = this.span(tag);
    let words = "";
    for (let i = 0; i < Math.min(count, 65536); i++) words += String.fromCharCode(this.view.getUint8(at + i));
    return words;
  }
}

/** The number of images that one page of an ImageJ stack stands for. */
function imagesOfStack(about) {
  const found = about.startsWith("ImageJ=") ? /\nimages=(\d{1,6})/.exec(about) : null;
  return found ? Math.max(1, Number(found[1])) : 1;
}

/** The number of channels that ImageJ or OME-XML say the pages are, where they are neither slices nor times. */
function countChannels(about) {
  const numbers = {};
  if (about.startsWith("ImageJ=")) {
    for (const [, name, n] of about.matchAll(/\n(channels|slices|frames)=(\d{1,6})/g)) numbers[name] = Number(n);
    return Math.max(numbers.slices ?? 1, numbers.frames ?? 1) === 1 ? numbers.channels ?? 0 : 0;
  }
  if (!about.includes("<OME")) return 0;
  for (const [, name, n] of about.matchAll(/\sSize([CZT])="(\d{1,6})"/g)) numbers[name] ??= Number(n);
  return (numbers.Z ?? 1) === 1 && (numbers.T ?? 1) === 1 ? numbers.C ?? 0 : 0;
}

async function decode(data, tags, little, image, images) {
  const page = guarded(() => describe(tags));
  const { width, height, samples, bits, planar, tiled, compression } = page;
  checkSize(width, height);
  refuseUnread(page);
  const Kind = bits === 16 ? Uint16Array : Uint8Array;
  const channels = samples;
  const out = new Kind(width * height * channels);
  if (images > 1) {
    if (compression !== "none" || tags.all(273).length !== 1) throw new ImageError("an ImageJ stack of this form is not read by this page", { fix: "save each page as its own file" });
    const bytes = width * height * channels * (bits / 8);
    copy(data, tags.one(273) + image * bytes, bytes, out, bits, little);
    return finished(out, page);
  }
  const [rows, columns] = page.piece;
  const [down, across] = [Math.ceil(height / rows), tiled ? Math.ceil(width / columns) : 1];
  const inPiece = planar ? 1 : channels;
  for (const [number, start] of page.offsets.entries()) {
    const plane = planar ? Math.floor(number / (down * across)) : 0;
    const place = number % (down * across);
    const [y, x] = [Math.floor(place / across) * rows, (place % across) * columns];
    const here = tiled ? rows : Math.min(rows, height - y);
    const expected = here * columns * inPiece * (bits / 8);
    const stored = data.subarray(start, start + page.counts[number]);
    const bytes = await unpack(stored, compression, expected);
    if (plane >= channels || bytes.length < expected || start + page.counts[number] > data.length) {
      throw new ImageError("TIFF is damaged: a strip or tile of another length", { fix: DAMAGED });
    }
    const values = new Kind(here * columns * inPiece);
    copy(bytes, 0, expected, values, bits, little);
    if (page.predictor === 2) undoDifferences(values, columns * inPiece, inPiece);
    for (let row = 0; row < Math.min(here, height - y); row++) {
      const count = Math.min(columns, width - x);
      if (!planar) {
        out.set(values.subarray(row * columns * channels, (row * columns + count) * channels), ((y + row) * width + x) * channels);
        continue;
      }
      for (let i = 0; i < count; i++) out[((y + row) * width + x + i) * channels + plane] = values[row * columns + i];
    }
  }
  if (page.offsets.length !== down * across * (planar ? channels : 1)) {
    throw new ImageError("TIFF is damaged: strips or tiles are missing", { fix: DAMAGED });
  }
  return finished(out, page);
}

function describe(tags) {
  const [bits, kinds] = [tags.all(258, [1]), tags.all(339, [1])];
  const [width, height] = [tags.one(256), tags.one(257)];
  const tiled = tags.has(324);
  const page = {
    width, height, tiled,
    bits: bits[0], kind: { 1: "uint", 2: "int", 3: "float" }[kinds[0]] ?? "uint",
    mixed: new Set(bits).size !== 1 || new Set(kinds).size !== 1,
    photometric: tags.one(262), samples: tags.one(277, 1), planar: tags.one(284, 1) === 2 && tags.one(277, 1) > 1,
    compression: PACKED[tags.one(259, 1)] ?? `method ${tags.one(259, 1)}`,
    predictor: tags.one(317, 1), orientation: tags.one(274, 1), reversed: tags.one(266, 1) === 2,
    extra: tags.all(338), offsets: tags.all(tiled ? 324 : 273), counts: tags.all(tiled ? 325 : 279),
    piece: tiled ? [tags.one(323), tags.one(322)] : [Math.min(tags.one(278, height), height), width],
  };
  if (Math.min(width, height, page.samples, ...page.piece) < 1 || page.counts.length !== page.offsets.length) {
    throw new ImageError("TIFF has no pixels", { found: `${width} x ${height} x ${page.samples}` });
  }
  return page;
}

function refuseUnread(page) {
  const { samples, bits, kind, photometric, compression, predictor, extra } = page;
  if (page.mixed) throw new ImageError("TIFF of mixed numbers is not supported");
  if (![0, 1, 2].includes(photometric) || samples > MAX_CHANNELS) {
    const found = { 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "LAB" }[photometric] ?? `${samples} channels`;
    throw new ImageError("image mode is not supported", { expected: "grey or RGB", found, fix: "convert to RGB" });
  }
  if (kind !== "uint" || (bits !== 8 && bits !== 16) || page.reversed) {
    throw new ImageError("TIFF numbers are not read by this page", { expected: "8 or 16 bits", found: `${kind}${bits}`, fix: "save it with 8 or 16 bits" });
  }
  const known = [[1, 2], [2, 3], [2, 4]].some(([p, s]) => photometric === p && samples === s) && extra.length < 2;
  const usual = samples === 1 || (bits === 8 && known);
  const methods = usual ? ["none", "deflate", "LZW", "packbits"] : ["none", "deflate"];
  if (!methods.includes(compression) || ![1, 2].includes(predictor)) {
    throw new ImageError(`${kind}${bits} TIFF compressed by ${compression} cannot be read exactly`, {
      expected: methods.join(" or "), found: `${compression}, predictor ${predictor}`, fix: "save it without compression",
    });
  }
}

/** Copy samples out of bytes. */
function copy(bytes, at, length, out, bits, little) {
  if (at + length > bytes.length) throw new ImageError("TIFF is damaged: a strip or tile of another length", { fix: DAMAGED });
  if (bits === 8) {
    out.set(bytes.subarray(at, at + length));
    return;
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, length);
  for (let i = 0; i < length / 2; i++) out[i] = view.getUint16(2 * i, little);
}

function undoDifferences(values, row, step) {
  for (let start = 0; start < values.length; start += row) {
    for (let i = start + step; i < start + row; i++) values[i] += values[i - step];
  }
}

async function unpack(stored, compression, expected) {
  if (compression === "none") return stored;
  if (compression === "packbits") return unpackBits(stored, expected);
  if (compression === "LZW") return unpackLzw(stored, expected);
  return inflate(stored, expected);
}

async function inflate(stored, expected) {
  const out = new Uint8Array(expected);
  let filled = 0;
  const reader = new Blob([stored]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  try {
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      const taken = piece.value.subarray(0, expected - filled); // what follows is padding, or a bomb
      out.set(taken, filled);
      filled += taken.length;
      if (filled === expected) {
        reader.cancel().catch(() => {});
        break;
      }
    }
  } catch {
    filled = -1;
  }
  if (filled !== expected) throw new ImageError("TIFF is damaged: a strip or tile of another length", { fix: DAMAGED });
  return out;
}

function unpackBits(stored, expected) {
  const out = new Uint8Array(expected);
  let to = 0;
  for (let at = 0; at < stored.length && to < expected;) {
    const code = (stored[at++] << 24) >> 24;
    if (code >= 0) {
      out.set(stored.subarray(at, at + Math.min(code + 1, expected - to)), to);
      at += code + 1;
      to += code + 1;
    } else if (code !== -128) {
      out.fill(stored[at++], to, Math.min(to + 1 - code, expected));
      to += 1 - code;
    }
  }
  return to < expected ? new Uint8Array() : out;
}

/** LZW of TIFF 6.0, section 13: codes of 9 to 12 bits, high bits first, one code earlier than GIF. */
function unpackLzw(stored, expected) {
  const out = new Uint8Array(expected);
  const [first, length] = [new Int32Array(4097), new Int32Array(4097)]; // where in `out` a code's bytes were written
  let [to, next, width, last, buffer, held] = [0, 258, 9, -1, 0, 0];
  for (let at = 0; to < expected;) {
    while (held < width && at < stored.length) {
      buffer = ((buffer << 8) | stored[at++]) & 0xffffff;
      held += 8;
    }
    if (held < width) break;
    const code = (buffer >> (held - width)) & ((1 << width) - 1);
    held -= width;
    if (code === 257) break;
    if (code === 256) {
      [next, width, last] = [258, 9, -1];
      continue;
    }
    const start = to;
    if (code < 256) {
      out[to++] = code;
    } else if (code < next || (code === next && last >= 0)) {
      const [from, count] = code < next ? [first[code], length[code]] : [last, to - last + 1];
      for (let i = 0; i < count && to < expected; i++) out[to++] = out[from + i];
    } else {
      return new Uint8Array();
    }
    if (last >= 0 && next < 4096) {
      [first[next], length[next]] = [last, start - last + 1];
      next += 1;
    }
    last = start;
    if (next + 1 >= 1 << width && width < 12) width += 1;
  }
  return to < expected ? new Uint8Array() : out;
}

/** White is zero turned round, alpha dropped where it hides nothing, and upright. */
function finished(values, page) {
  const full = page.bits === 16 ? 65535 : 255;
  let { samples: channels, width, height } = page;
  const color = page.photometric === 2 ? 3 : 1;
  let alpha = page.photometric === 2 && channels === 4 && !page.extra.length ? 3 : -1;
  const mark = page.extra.findIndex((kind) => kind === 1 || kind === 2);
  if (mark >= 0) alpha = channels - page.extra.length + mark;
  if (alpha >= 0 && channels > 1) {
    const kept = new values.constructor(width * height * (channels - 1));
    for (let i = 0, to = 0; i < values.length; i++) {
      if (i % channels !== alpha) kept[to++] = values[i];
      else if (values[i] < full) throw new ImageError("image has transparent pixels", { fix: "flatten it onto a background" });
    }
    [values, channels] = [kept, channels - 1];
  }
  if (page.photometric === 0) for (let i = 0; i < values.length; i++) values[i] = full - values[i];
  if (channels < color) throw new ImageError("TIFF has no pixels", { found: `${channels} channels` });
  return upright({ data: values, width, height, channels }, page.orientation);
}

/** Turn stored pixels the way the orientation tag says (TIFF 6.0, tag 274). */
function upright({ data, width, height, channels }, orientation) {
  if (!(orientation >= 2 && orientation <= 8)) return { data, width, height, channels };
  const swapped = orientation >= 5;
  const [rows, columns] = swapped ? [width, height] : [height, width];
  const [flipY, flipX] = { 2: [0, 1], 3: [1, 1], 4: [1, 0], 5: [0, 0], 6: [0, 1], 7: [1, 1], 8: [1, 0] }[orientation];
  const out = new data.constructor(data.length);
  for (let y = 0, to = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      const [a, b] = [flipY ? rows - 1 - y : y, flipX ? columns - 1 - x : x];
      const from = (swapped ? b * width + a : a * width + b) * channels;
      for (let c = 0; c < channels; c++) out[to++] = data[from + c];
    }
  }
  return { data: out, width: columns, height: rows, channels };
}

/** The pages of a stack as the channels of one image. */
function joined(pages) {
  const [{ width, height, data }] = pages;
  const same = pages.every((p) => p.width === width && p.height === height && p.channels === 1 && p.data.constructor === data.constructor);
  if (!same || pages.length > MAX_CHANNELS) {
    throw new ImageError("the pages are no channels", { expected: `at most ${MAX_CHANNELS} grey pages of one size and depth`, found: pages.length });
  }
  const out = new (/** @type {any} */ (data).constructor)(width * height * pages.length);
  pages.forEach((page, c) => page.data.forEach((value, i) => { out[i * pages.length + c] = value; }));
  return { data: out, width, height, channels: pages.length };
}
