// What is drawn: the picture, what is suggested, what is painted, and what tools show, each on a surface of its own. Of what has
// changed since the last frame alone: the work of a frame is that of a stroke, not of the view.

import { classColor, objectColor, packed } from "./palette.js";
import { Surface } from "./surface.js";
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

/**
 * A surface of labels: which tiles it shows, in which way.
 * @typedef {{surface: Surface, shows: string, drawn: Set<LabelTile>}} Shown
 */

export class Scene {
  /**
   * @param {HTMLCanvasElement} canvas of the picture
   * @param {Record<"guess" | "paint" | "over", HTMLElement>} holders
   * @param {import("./view.js").View} view
   * @param {import("./tiles.js").PictureTiles} pictures
   * @param {import("./tiles.js").LabelTiles} labels
   * @param {Look} look
   */
  constructor(canvas, holders, view, pictures, labels, look) {
    this.canvas = canvas;
    this.over = new Surface(holders.over);
    /** @type {Record<"guess" | "paint", Shown>} */
    this.shown = { guess: nothing(holders.guess), paint: nothing(holders.paint) };
    this.view = view;
    this.pictures = pictures;
    this.labels = labels;
    this.look = look;
    /** @type {ImageRow | null} */
    this.image = null;
    /** @type {import("./api.js").ClassRow[]} */
    this.classes = [];
    /** What is drawn on top, and where, if anything. @type {{box: () => Box | null, draw: (context: CanvasRenderingContext2D) => void}} */
    this.ink = { box: () => null, draw: () => {} };
    /** @type {Box | null} */
    this.inked = null;
    /** Hears whether any of the picture is seen. @type {(seen: boolean) => void} */
    this.pictured = () => {};
    /** The tiles of the picture that are drawn. @type {Set<ImageBitmap>} */
    this.drawn = new Set();
    this.asked = new Set();
    this.pending = 0;
  }

  /**
   * Draw in the next frame.
   * @param {"all" | "picture" | "tiles" | "paint" | "over"} what all: the view or its look has changed; picture: tiles of it have come;
   *   tiles: tiles of labels are out of date; paint: they have changed; over: what is on top
   */
  draw(what = "all") {
    this.asked.add(what);
    this.pending ||= requestAnimationFrame(() => {
      this.pending = 0;
      this.#frame();
    });
  }

  resize() {
    const { clientWidth, clientHeight } = /** @type {HTMLElement} */ (this.canvas.parentElement);
    const [across, down] = [clientWidth, clientHeight].map((length) => Math.round(length * devicePixelRatio));
    Object.assign(this.canvas, { width: across, height: down });
    for (const surface of [this.over, this.shown.guess.surface, this.shown.paint.surface]) surface.resize(across, down);
    this.view.resize(across, down);
    this.draw();
  }

  #frame() {
    const { asked } = this;
    this.asked = new Set();
    if (!this.image) return;
    const [all, tiles] = [asked.has("all"), asked.has("all") || asked.has("tiles")];
    if (all) for (const shown of Object.values(this.shown)) shown.shows = "";
    if (all || asked.has("picture")) this.#drawPicture(all);
    if (tiles) this.#want();
    if (tiles || asked.has("paint")) {
      const { guess, paint } = this.shown;
      paint.surface.holder.style.setProperty("--opacity", `${this.look.outlines ? 1 : this.look.opacity}`);
      this.#drawLabels(guess, this.look.guess || null);
      this.#drawLabels(paint, this.look.paint ? (this.look.byObject ? "objects" : "classes") : null);
    }
    if (asked.size > Number(asked.has("picture"))) this.#drawInk();
  }

  #drawInk() {
    const box = this.ink.box();
    if (this.inked) this.over.erase(this.inked);
    if (box) this.over.draw(box, this.ink.draw);
    this.inked = box;
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

  /** Draw the picture, or what of it has come since. @param {boolean} anew */
  #drawPicture(anew) {
    const image = /** @type {ImageRow} */ (this.image);
    const { view, look, drawn } = this;
    const context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    const { level } = view;
    const levels = Array.from({ length: levelsOf(image.width, image.height) - level }, (_, at) => level + at).reverse();
    const tiles = levels.flatMap((of) => view.tiles(of).map(({ tx, ty }) => ({ of, tx, ty, tile: this.pictures.get(image, look.show, of, tx, ty) })));
    const lacks = tiles.some(({ of, tile }) => of === level && !tile);
    if (anew || (lacks && tiles.some(({ of, tile }) => of > level && tile && !drawn.has(tile)))) { // what is coarser lies below
      context.clearRect(0, 0, this.canvas.width, this.canvas.height);
      drawn.clear();
    }
    for (const { of, tx, ty, tile } of tiles) {
      if (!tile || drawn.has(tile) || (of > level && !lacks)) continue;
      drawn.add(tile);
      context.imageSmoothingEnabled = view.scale * 2 ** of < 1.5;
      context.drawImage(tile, .../** @type {[number, number, number, number]} */ (view.place(of, tx, ty, tile.width, tile.height)));
    }
    const [left, top] = view.toCanvas(0, 0).map(Math.round);
    const [right, bottom] = view.toCanvas(image.width, image.height).map(Math.round);
    context.strokeStyle = "#8888";
    context.strokeRect(left - 0.5, top - 0.5, right - left + 1, bottom - top + 1);
    this.pictured(drawn.size > 0);
  }

  /** Draw the tiles that a surface does not show yet, and what has changed of the others. @param {Shown} shown @param {Layer | null} layer */
  #drawLabels(shown, layer) {
    const { view, labels } = this;
    const { level } = view;
    const { surface, drawn } = shown;
    surface.holder.hidden = !layer;
    const shows = `${layer} ${this.#style}`;
    const here = layer ? view.tiles(level).flatMap(({ tx, ty }) => labels.get(layer, level, tx, ty) ?? []).filter(({ data }) => data) : [];
    if (shown.shows !== shows) {
      shown.shows = shows;
      drawn.clear();
      surface.clear();
      if (layer && here.length < view.tiles(level).length) this.#drawOthers(surface, layer);
    }
    for (const tile of drawn) { // of which the server has no more
      if (tile.data) continue;
      surface.erase(this.#placeOf(tile, [0, 0, tile.width, tile.height]));
      drawn.delete(tile);
    }
    const changed = here.flatMap((tile) => { // noted before, since to draw a tile makes it clean
      const { dirty, width, height } = tile;
      const box = !drawn.has(tile) ? [0, 0, width, height] : dirty ? [dirty[0] - 2, dirty[1] - 2, dirty[2] + 2, dirty[3] + 2] : null;
      drawn.add(tile);
      return box ? [{ tile, box }] : [];
    });
    for (const { tile, box } of changed) this.#drawPart(surface, here, this.#placeOf(tile, box));
  }

  /** Where a box of a tile is on the surface. @param {LabelTile} tile @param {number[]} box @returns {Box} */
  #placeOf({ level, tx, ty, width, height }, [x0, y0, x1, y1]) {
    const [left, top, across, down] = this.view.place(level, tx, ty, width, height);
    const [x, y] = [across / width, down / height];
    return [Math.floor(left + x0 * x), Math.floor(top + y0 * y), Math.ceil(left + x1 * x), Math.ceil(top + y1 * y)];
  }

  /** @param {Surface} surface @param {LabelTile[]} here the tiles in sight @param {Box} part */
  #drawPart(surface, here, part) {
    const [left, top, right, bottom] = part;
    const met = here.filter(({ level, tx, ty, width, height }) => {
      const [x, y, across, down] = this.view.place(level, tx, ty, width, height);
      return x < right && y < bottom && x + across > left && y + down > top;
    });
    const inked = met.filter((tile) => this.#colored(tile) && tile.inked);
    surface.erase(part);
    if (inked.length) surface.draw(part, (context) => inked.forEach((tile) => this.#drawTile(context, tile)));
  }

  /** Draw tiles of other levels, until those of this one come. @param {Surface} surface @param {Layer} layer */
  #drawOthers(surface, layer) {
    for (const tile of this.labels.tiles.values()) {
      if (tile.layer !== layer || tile.level === this.view.level || !tile.data) continue;
      this.#colored(tile);
      if (tile.inked) surface.draw(this.#placeOf(tile, [0, 0, tile.width, tile.height]), (context) => this.#drawTile(context, tile));
    }
  }

  /** What the colours of tiles depend on beside their pixels. */
  get #style() {
    return `${this.look.outlines}/${this.look.confidence}/${this.classes.map(({ color }) => color)}`;
  }

  /** @param {CanvasRenderingContext2D} context @param {LabelTile} tile */
  #drawTile(context, tile) {
    context.imageSmoothingEnabled = false;
    const place = this.view.place(tile.level, tile.tx, tile.ty, tile.width, tile.height);
    context.drawImage(this.#colored(tile), .../** @type {[number, number, number, number]} */ (place));
  }

  /** A tile in colours, of which only what has changed is made anew. @param {LabelTile} tile */
  #colored(tile) {
    const guess = tile.layer === "network" || tile.layer === "forest";
    const style = this.#style;
    if (!tile.canvas || tile.canvas.width !== tile.width || tile.canvas.height !== tile.height) {
      tile.canvas = new OffscreenCanvas(tile.width, tile.height);
      tile.style = "";
    }
    if (tile.style !== style) {
      tile.soilAll();
      tile.inked = false;
    }
    tile.style = style;
    if (!tile.dirty) return tile.canvas;
    const [left, top, right, bottom] = [
      Math.max(0, tile.dirty[0] - 1), Math.max(0, tile.dirty[1] - 1), Math.min(tile.width, tile.dirty[2] + 1), Math.min(tile.height, tile.dirty[3] + 1)];
    tile.dirty = null;
    const image = new ImageData(right - left, bottom - top);
    const pixels = new Uint32Array(image.data.buffer);
    if (guess) this.#colorGuess(tile, pixels, left, top, right, bottom);
    else this.#colorPaint(tile, pixels, left, top, right, bottom);
    tile.inked ||= isInked(pixels);
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

/** @param {HTMLElement} holder @returns {Shown} */
function nothing(holder) {
  return { surface: new Surface(holder), shows: "", drawn: new Set() };
}

/** Whether any pixel is seen. @param {Uint32Array} pixels */
function isInked(pixels) {
  for (let at = 0; at < pixels.length; at++) if (pixels[at]) return true;
  return false;
}
