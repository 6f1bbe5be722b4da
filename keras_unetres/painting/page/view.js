// Where on the picture one looks: zoom and place, and which tiles of which level that shows.

/** @typedef {import("./raster.js").Box} Box */

export const TILE = 512; // px of a side
const MOST = 64; // device pixels that one of the picture may take

/** The number of levels of a picture: the last one fits into a tile. @param {number} width @param {number} height */
export function levelsOf(width, height) {
  let levels = 1;
  while (Math.max(width, height) / 2 ** (levels - 1) > TILE) levels++;
  return levels;
}

/** Zoom and place of a picture in a canvas; lengths of the canvas are device pixels. */
export class View {
  constructor() {
    this.width = 1; // of the picture
    this.height = 1;
    this.across = 1; // of the canvas
    this.down = 1;
    this.scale = 1; // device pixels of a pixel
    this.x = 0; // place of the picture in the middle of the canvas
    this.y = 0;
    this.fitted = true;
  }

  /** Look at another picture, whole. @param {number} width @param {number} height */
  open(width, height) {
    this.width = width;
    this.height = height;
    this.fit();
  }

  /** @param {number} across @param {number} down */
  resize(across, down) {
    this.across = Math.max(1, across);
    this.down = Math.max(1, down);
    if (this.fitted) this.fit();
    else this.#settle();
  }

  /** The zoom at which the whole picture is seen. */
  get whole() {
    return Math.min(this.across / this.width, this.down / this.height) * 0.96;
  }

  fit() {
    this.scale = Math.min(this.whole, MOST);
    this.x = this.width / 2;
    this.y = this.height / 2;
    this.fitted = true;
  }

  /** Zoom, with the place under (left, top) of the canvas kept there. @param {number} factor @param {number} left @param {number} top */
  zoom(factor, left = this.across / 2, top = this.down / 2) {
    const [x, y] = this.toPicture(left, top);
    this.scale = Math.min(Math.max(this.scale * factor, Math.min(this.whole / 2, 1)), MOST);
    this.x = x - (left - this.across / 2) / this.scale;
    this.y = y - (top - this.down / 2) / this.scale;
    this.fitted = false;
    this.#settle();
  }

  /** @param {number} right device pixels by which the picture moves @param {number} down */
  pan(right, down) {
    this.x -= right / this.scale;
    this.y -= down / this.scale;
    this.fitted = false;
    this.#settle();
  }

  /** Bring a part of the picture into sight. @param {Box} box */
  show([left, top, right, bottom]) {
    const room = Math.min(this.across / Math.max(1, right - left), this.down / Math.max(1, bottom - top)) * 0.5;
    this.scale = Math.min(Math.max(Math.min(room, 8), Math.min(this.whole, 1)), MOST);
    this.x = (left + right) / 2;
    this.y = (top + bottom) / 2;
    this.fitted = false;
    this.#settle();
  }

  /** Whether a part of the picture is in sight, whole. @param {Box} box */
  shows([left, top, right, bottom]) {
    const [x0, y0, x1, y1] = this.box;
    return left >= x0 && top >= y0 && right <= x1 && bottom <= y1;
  }

  #settle() {
    this.x = Math.min(Math.max(this.x, 0), this.width);
    this.y = Math.min(Math.max(this.y, 0), this.height);
  }

  /** @param {number} left @param {number} top @returns {[number, number]} */
  toPicture(left, top) {
    return [this.x + (left - this.across / 2) / this.scale, this.y + (top - this.down / 2) / this.scale];
  }

  /** @param {number} x @param {number} y @returns {[number, number]} */
  toCanvas(x, y) {
    return [(x - this.x) * this.scale + this.across / 2, (y - this.y) * this.scale + this.down / 2];
  }

  /** The part of the picture in sight, in whole pixels. @returns {Box} */
  get box() {
    const [left, top] = this.toPicture(0, 0);
    const [right, bottom] = this.toPicture(this.across, this.down);
    return [Math.max(0, Math.floor(left)), Math.max(0, Math.floor(top)), Math.min(this.width, Math.ceil(right)), Math.min(this.height, Math.ceil(bottom))];
  }

  /** The level whose pixels are nearest to those of the canvas. */
  get level() {
    return Math.min(Math.max(0, Math.round(Math.log2(1 / this.scale))), levelsOf(this.width, this.height) - 1);
  }

  /** The tiles in sight, those in the middle first. @returns {{tx: number, ty: number}[]} */
  tiles(level = this.level) {
    const side = TILE * 2 ** level;
    const [left, top, right, bottom] = this.box;
    const found = [];
    for (let ty = Math.floor(top / side); ty * side < bottom; ty++) {
      for (let tx = Math.floor(left / side); tx * side < right; tx++) found.push({ tx, ty });
    }
    const far = (/** @type {{tx: number, ty: number}} */ { tx, ty }) => Math.hypot((tx + 0.5) * side - this.x, (ty + 0.5) * side - this.y);
    return found.sort((a, b) => far(a) - far(b));
  }

  /** Where a tile of so many pixels is drawn: left, top, width, height, between whole device pixels. @param {number} level @param {number} tx @param {number} ty @param {number} width @param {number} height */
  place(level, tx, ty, width, height) {
    const step = 2 ** level;
    const [left, top] = this.toCanvas(tx * TILE * step, ty * TILE * step).map(Math.round);
    const [right, bottom] = this.toCanvas((tx * TILE + width) * step, (ty * TILE + height) * step).map(Math.round);
    return [left, top, right - left, bottom - top];
  }
}
