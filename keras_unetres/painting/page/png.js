// Label maps as PNG of one channel, 8 or 16 bits, to exact numbers: a canvas would give 8 bits and four channels.

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

/**
 * @typedef {{width: number, height: number, data: Uint8Array | Uint16Array}} Labels row after row
 */

/**
 * Decode a grey PNG of 8 or 16 bits that is not interlaced.
 * @param {Uint8Array} file
 * @returns {Promise<Labels>}
 */
export async function decodeLabels(file) {
  if (SIGNATURE.some((byte, at) => file[at] !== byte)) throw new Error("the server's answer is not a PNG");
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  let [width, height, bytes] = [0, 0, 0];
  /** @type {Uint8Array<ArrayBuffer>[]} */
  const parts = [];
  for (let at = 8; at + 8 <= file.length;) {
    const length = view.getUint32(at);
    const kind = String.fromCharCode(...file.subarray(at + 4, at + 8));
    if (kind === "IHDR") {
      [width, height] = [view.getUint32(at + 8), view.getUint32(at + 12)];
      const [depth, color, , , interlaced] = file.subarray(at + 16, at + 21);
      if (color !== 0 && !(color === 3 && depth === 8)) throw new Error(`a label map is grey, and this PNG has colour type ${color}`);
      if (interlaced || (depth !== 8 && depth !== 16)) throw new Error(`a label map has 8 or 16 bits, and this PNG ${depth}`);
      bytes = depth / 8;
    }
    if (kind === "IDAT") parts.push(/** @type {Uint8Array<ArrayBuffer>} */ (file.subarray(at + 8, at + 8 + length)));
    at += length + 12;
  }
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  const raw = new Uint8Array(await new Response(stream).arrayBuffer());
  const stride = width * bytes;
  if (raw.length !== (stride + 1) * height) throw new Error("this PNG ends too early");
  const flat = unfilter(raw, stride, height, bytes);
  if (bytes === 1) return { width, height, data: flat };
  const data = new Uint16Array(width * height);
  for (let at = 0; at < data.length; at++) data[at] = flat[2 * at] << 8 | flat[2 * at + 1];
  return { width, height, data };
}

/**
 * Undo the filters of rows (PNG, third edition, section 9.2).
 * @param {Uint8Array} raw @param {number} stride @param {number} height @param {number} bytes of a pixel
 */
function unfilter(raw, stride, height, bytes) {
  const flat = new Uint8Array(stride * height);
  for (let y = 0; y < height; y++) {
    const filter = raw[y * (stride + 1)];
    const source = y * (stride + 1) + 1;
    const row = y * stride;
    for (let x = 0; x < stride; x++) {
      const left = x >= bytes ? flat[row + x - bytes] : 0;
      const above = y > 0 ? flat[row + x - stride] : 0;
      const corner = x >= bytes && y > 0 ? flat[row + x - stride - bytes] : 0;
      let guess = 0;
      if (filter === 1) guess = left;
      else if (filter === 2) guess = above;
      else if (filter === 3) guess = (left + above) >> 1;
      else if (filter === 4) {
        const [a, b, c] = [Math.abs(above - corner), Math.abs(left - corner), Math.abs(left + above - 2 * corner)];
        guess = a <= b && a <= c ? left : b <= c ? above : corner;
      }
      flat[row + x] = raw[source + x] + guess;
    }
  }
  return flat;
}
