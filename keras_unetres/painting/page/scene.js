// What is drawn: the picture, what is suggested, what is painted, and the brush, each on a canvas of its own.

import { classColor, objectColor, packed } from "./palette.js";
import { levelsOf, TILE } from "./view.js";

/** @typedef {import("./raster.js").Box} Box */
/** @typedef {import("./raster.js").Point} Point */
/** @typedef {import("./tiles.js").LabelTile} LabelTile */
/** @typedef {import("./tiles.js").Layer} Layer */
/** @typedef {import("./api.js").ImageRow} ImageRow */

/**
 * How it is drawn.
 * @typedef {object} Look
 * @property {boolean} paint whether what is painted is seen
 * @property {boolean} outlines borders alone
 * @property {boolean} byObject a colour for each object, not for each class
 * @property {number} opacity 0 to 1
 * @property {"" | "network" | "forest"} guess the suggestion that is seen
 * @property {boolean} confidence paler where the network is less sure
 * @property {string} show the query of the picture's tiles: channels, contrast, page
 */

const NONE = 255; // nothing is painted
const SIDES = [[1, 0], [-1, 0], [0, 1], [0, -1]];

export class Scene {
  /**
   * @param {Record<"picture" | "guess" | "paint" | "over", HTMLCanvasElement>} canvases
   * @param {import("./view.js").View} view
   * @param {import("./tiles.js").PictureTiles} pictures
   * @param {import("./tiles.js").LabelTiles} labels
   * @param {Look} look
   */
  constructor(canvases, view, pictures, labels, look) {
    this.canvases = canvases;
    this.view = view;
    this.pictures = pictures;
    this.labels = labels;
    this.look = look;
    /** @type {ImageRow | null} */
    this.image = null;
    /** @type {import("./api.js").ClassRow[]} */
    this.classes = [];
    /** What the tools draw on top, if anything. @type {(clear: () => CanvasRenderingContext2D) => boolean} */
    this.over = () => false;
    this.inked = false; // whether something is on top
    /** Hears whether any of the picture is seen. @type {(seen: boolean) => void} */
    this.pictured = () => {};
    /** What each canvas shows, whole and of this view: then only what has changed is drawn. @type {Map<HTMLCanvasElement, string>} */
    this.whole = new Map();
    this.asked = { all: false, paint: false, over: false };
    this.pending = 0;
    this.frames = 0;
  }

  /** Draw in the next frame. @param {"all" | "paint" | "over"} what */
  draw(what = "all") {
    this.asked[what] = true;
    this.pending ||= requestAnimationFrame(() => {
      this.pending = 0;
      this.#frame();
    });
  }

  resize() {
    const { clientWidth, clientHeight } = this.canvases.over;
    const [across, down] = [clientWidth, clientHeight].map((length) => Math.round(length * devicePixelRatio));
    for (const canvas of Object.values(this.canvases)) Object.assign(canvas, { width: across, height: down });
    this.view.resize(across, down);
    this.draw();
  }

  #frame() {
    const { all, paint, over } = this.asked;
    this.asked = { all: false, paint: false, over: false };
    this.frames++;
    if (!this.image) return;
    if (all) {
      this.whole.clear();
      this.#drawPicture();
      this.#want();
    }
    if (all || paint) {
      this.canvases.paint.style.opacity = `${this.look.outlines ? 1 : this.look.opacity}`;
      this.#drawLabels(this.canvases.guess, this.look.guess || null);
      this.#drawLabels(this.canvases.paint, this.look.paint ? (this.look.byObject ? "objects" : "classes") : null);
    }
    if (all || over || paint) {
      const inked = this.over(() => clear(this.canvases.over));
      if (!inked && this.inked) clear(this.canvases.over);
      this.inked = inked;
    }
  }

  /** Layers that are needed for what is seen. @returns {Layer[]} */
  get layers() {
    const { byObject, guess, confidence } = this.look;
    /** @type {Layer[]} */
    const layers = ["classes"];
    if (byObject) layers.push("objects");
    if (guess) layers.push(guess);
    if (guess === "network" && confidence) layers.push("confidence");
    return layers;
  }

  #want() {
    const image = /** @type {ImageRow} */ (this.image);
    const { view, look } = this;
    const level = view.level;
    const here = view.tiles(level).map((tile) => ({ level, ...tile }));
    const coarse = Math.min(level + 2, levelsOf(image.width, image.height) - 1);
    const whole = view.tiles(coarse).map((tile) => ({ level: coarse, ...tile }));
    this.pictures.want(image, look.show, [...here, ...whole]);
    this.labels.want(this.layers.flatMap((layer) => here.map((tile) => ({ layer, ...tile }))));
  }

  #drawPicture() {
    const image = /** @type {ImageRow} */ (this.image);
    const { view, look } = this;
    const context = clear(this.canvases.picture);
    const level = view.level;
    const levels = levelsOf(image.width, image.height);
    let seen = false;
    for (let other = levels - 1; other >= level; other--) { // what is coarser lies below, for what has not come yet
      context.imageSmoothingEnabled = view.scale * 2 ** other < 1.5;
      for (const { tx, ty } of view.tiles(other)) {
        const tile = this.pictures.get(image, look.show, other, tx, ty);
        if (!tile) continue;
        seen = true;
        context.drawImage(tile, .../** @type {[number, number, number, number]} */ (view.place(other, tx, ty, tile.width, tile.height)));
      }
    }
    const [left, top] = view.toCanvas(0, 0).map(Math.round);
    const [right, bottom] = view.toCanvas(image.width, image.height).map(Math.round);
    context.strokeStyle = "#8888";
    context.strokeRect(left - 0.5, top - 0.5, right - left + 1, bottom - top + 1);
    this.pictured(seen);
  }

  /** @param {HTMLCanvasElement} canvas @param {Layer | null} layer */
  #drawLabels(canvas, layer) {
    canvas.hidden = !layer;
    const shows = `${layer} ${this.#style}`;
    const { view, labels } = this;
    const level = view.level;
    if (!layer) {
      this.whole.delete(canvas);
      return;
    }
    const missing = view.tiles(level).filter(({ tx, ty }) => !labels.get(layer, level, tx, ty)?.data);
    if (!missing.length && this.whole.get(canvas) === shows) {
      this.#drawChanged(canvas, layer);
      return;
    }
    this.whole.delete(canvas);
    if (!missing.length) this.whole.set(canvas, shows);
    const context = clear(canvas);
    context.imageSmoothingEnabled = false;
    for (const tile of missing.length ? labels.tiles.values() : []) { // of other levels, until they come
      if (tile.layer === layer && tile.level !== level && tile.data) this.#drawTile(context, tile);
    }
    for (const { tx, ty } of view.tiles(level)) {
      const tile = labels.get(layer, level, tx, ty);
      if (!tile?.data) continue;
      const place = view.place(level, tx, ty, tile.width, tile.height);
      if (missing.length) context.clearRect(.../** @type {[number, number, number, number]} */ (place));
      this.#drawTile(context, tile);
    }
  }

  /** Draw what has changed on a canvas that shows all else already. @param {HTMLCanvasElement} canvas @param {Layer} layer */
  #drawChanged(canvas, layer) {
    const { view, labels } = this;
    const level = view.level;
    const step = 2 ** level;
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    const here = view.tiles(level).flatMap(({ tx, ty }) => labels.get(layer, level, tx, ty) ?? []);
    const changed = here.flatMap(({ tx, ty, dirty }) => (dirty ? [{ tx, ty, dirty }] : [])); // drawing a tile makes it clean
    for (const { tx, ty, dirty: [x0, y0, x1, y1] } of changed) {
      const [left, top] = view.toCanvas((tx * TILE + x0 - 2) * step, (ty * TILE + y0 - 2) * step).map(Math.floor);
      const [right, bottom] = view.toCanvas((tx * TILE + x1 + 2) * step, (ty * TILE + y1 + 2) * step).map(Math.ceil);
      context.save();
      context.beginPath();
      context.rect(left, top, right - left, bottom - top);
      context.clip();
      context.clearRect(left, top, right - left, bottom - top);
      context.imageSmoothingEnabled = false;
      for (const tile of here) {
        const [x, y, width, height] = view.place(level, tile.tx, tile.ty, tile.width, tile.height);
        if (x < right && y < bottom && x + width > left && y + height > top) this.#drawTile(context, tile);
      }
      context.restore();
    }
  }

  /** What the colours of tiles depend on beside their pixels. */
  get #style() {
    return `${this.look.outlines}/${this.look.confidence}/${this.classes.map(({ color }) => color)}`;
  }

  /** @param {CanvasRenderingContext2D} context @param {LabelTile} tile */
  #drawTile(context, tile) {
    const canvas = this.#colored(tile);
    const place = this.view.place(tile.level, tile.tx, tile.ty, tile.width, tile.height);
    context.drawImage(canvas, .../** @type {[number, number, number, number]} */ (place));
  }

  /** A tile in colours, of which only what has changed is made anew. @param {LabelTile} tile */
  #colored(tile) {
    const guess = tile.layer === "network" || tile.layer === "forest";
    const style = this.#style;
    if (!tile.canvas || tile.canvas.width !== tile.width || tile.canvas.height !== tile.height) {
      tile.canvas = new OffscreenCanvas(tile.width, tile.height);
      tile.style = "";
    }
    if (tile.style !== style) tile.soilAll();
    tile.style = style;
    if (!tile.dirty) return tile.canvas;
    const [left, top, right, bottom] = [
      Math.max(0, tile.dirty[0] - 1), Math.max(0, tile.dirty[1] - 1), Math.min(tile.width, tile.dirty[2] + 1), Math.min(tile.height, tile.dirty[3] + 1)];
    tile.dirty = null;
    const image = new ImageData(right - left, bottom - top);
    const pixels = new Uint32Array(image.data.buffer);
    if (guess) this.#colorGuess(tile, pixels, left, top, right, bottom);
    else this.#colorPaint(tile, pixels, left, top, right, bottom);
    /** @type {OffscreenCanvasRenderingContext2D} */ (tile.canvas.getContext("2d")).putImageData(image, left, top);
    return tile.canvas;
  }

  /** Read a value of a tile or, beside it, of its neighbour; of what is not here, the nearest. @param {LabelTile} tile */
  #reader(tile) {
    const { layer, level, tx, ty, width, height } = tile;
    const data = /** @type {Uint8Array | Uint16Array} */ (tile.data);
    const beside = SIDES.map(([x, y]) => this.labels.get(layer, level, tx + x, ty + y));
    return (/** @type {number} */ x, /** @type {number} */ y) => {
      if (x >= 0 && y >= 0 && x < width && y < height) return data[y * width + x];
      const other = beside[x >= width ? 0 : x < 0 ? 1 : y >= height ? 2 : 3];
      const [column, row] = [x < 0 ? TILE - 1 : x >= width ? 0 : x, y < 0 ? TILE - 1 : y >= height ? 0 : y];
      if (other?.data && column < other.width && row < other.height) return other.data[row * other.width + column];
      return data[Math.min(Math.max(y, 0), height - 1) * width + Math.min(Math.max(x, 0), width - 1)];
    };
  }

  /** @param {LabelTile} tile @param {Uint32Array} pixels @param {number} left @param {number} top @param {number} right @param {number} bottom */
  #colorPaint(tile, pixels, left, top, right, bottom) {
    const objects = tile.layer === "objects";
    const data = /** @type {Uint8Array | Uint16Array} */ (tile.data);
    const none = objects ? 0 : NONE;
    const classes = objects ? this.labels.get("classes", tile.level, tile.tx, tile.ty)?.data : null;
    const pale = this.classes.map((row) => packed(classColor(row), 110)); // what belongs to no object
    const colors = new Map([[none, 0]]);
    if (!objects) for (const row of this.classes) colors.set(row.id, packed(classColor(row), 255));
    const read = this.look.outlines ? this.#reader(tile) : null;
    let [last, color] = [-1, 0];
    for (let y = top, to = 0; y < bottom; y++) {
      for (let x = left; x < right; x++, to++) {
        const value = data[y * tile.width + x];
        if (value === none) {
          const id = classes ? classes[y * tile.width + x] : NONE;
          if (id !== NONE && !this.look.outlines) pixels[to] = pale[id];
          continue;
        }
        if (read && read(x - 1, y) === value && read(x + 1, y) === value && read(x, y - 1) === value && read(x, y + 1) === value) continue;
        if (value !== last) {
          if (!colors.has(value)) colors.set(value, packed(objectColor(value), 255));
          [last, color] = [value, /** @type {number} */ (colors.get(value))];
        }
        pixels[to] = color;
      }
    }
  }

  /** What is suggested where nothing is painted: a border, and stripes within. @param {LabelTile} tile @param {Uint32Array} pixels @param {number} left @param {number} top @param {number} right @param {number} bottom */
  #colorGuess(tile, pixels, left, top, right, bottom) {
    const { level, tx, ty, width } = tile;
    const data = /** @type {Uint8Array} */ (tile.data);
    const painted = this.labels.get("classes", level, tx, ty)?.data;
    const sure = this.look.confidence ? this.labels.get("confidence", level, tx, ty)?.data : null;
    const read = this.#reader(tile);
    const inside = this.classes.map((row) => packed(classColor(row), 0));
    for (let y = top, to = 0; y < bottom; y++) {
      for (let x = left; x < right; x++, to++) {
        const at = y * width + x;
        const value = data[at];
        if (value === NONE || value === 0 || (painted && painted[at] !== NONE)) continue;
        const edge = read(x - 1, y) !== value || read(x + 1, y) !== value || read(x, y - 1) !== value || read(x, y + 1) !== value;
        const share = sure ? Math.max(0, sure[at] - 100) / 155 : 1; // of two classes, one is likelier than 127 in 255
        const stripe = (x + y & 7) < 4 ? 1 : 0.45;
        const alpha = edge ? 50 + 205 * share : this.look.outlines ? 0 : stripe * (10 + 120 * share);
        pixels[to] = (inside[value] | Math.round(alpha) << 24) >>> 0;
      }
    }
  }
}

/** @param {HTMLCanvasElement} canvas */
function clear(canvas) {
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.clearRect(0, 0, canvas.width, canvas.height);
  return context;
}
