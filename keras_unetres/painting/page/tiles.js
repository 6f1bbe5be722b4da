// Tiles on their way from the server, and those that are here: of pictures as bitmaps, of masks as numbers.
// Strokes that the server has not answered, or has answered after a tile was made, are drawn on the tile when it comes.

import { ServerError } from "./api.js";
import { decodeLabels } from "./png.js";
import { fillRuns, gridOf, runsOf } from "./raster.js";
import { TILE } from "./view.js";

/** @typedef {import("./raster.js").Box} Box */
/** @typedef {import("./raster.js").Run} Run */
/** @typedef {import("./outbox.js").Action} Action */
/** @typedef {import("./api.js").ImageRow} ImageRow */
/** @typedef {"classes" | "objects" | "forest" | "network" | "confidence"} Layer */

const AT_ONCE = 2; // requests of a loader: of the six that browsers allow, one hears events, and one is for strokes
const AGAIN = 1500; // ms after which a tile that failed is asked for again

/** Fetches what is wanted, what is wanted most first, and lets go of what is wanted no more. */
export class Loader {
  /**
   * @param {import("./api.js").Api} api
   * @param {(key: string, answer: Response) => Promise<void>} receive
   * @param {(key: string, error: unknown) => void} failed
   */
  constructor(api, receive, failed) {
    this.api = api;
    this.receive = receive;
    this.failed = failed;
    /** @type {Map<string, AbortController>} */
    this.running = new Map();
    /** @type {Map<string, string>} */
    this.wanted = new Map();
    /** @type {Map<string, number>} */
    this.paused = new Map();
  }

  /** @param {Map<string, string>} wanted key -> address, all that is wanted now */
  want(wanted) {
    this.wanted = wanted;
    const names = new Set([...wanted.keys()].map((key) => key.split("#")[0]));
    for (const [key, control] of this.running) if (!names.has(key.split("#")[0])) control.abort();
    this.#next();
  }

  /** Ask again for what failed. */
  again() {
    this.paused.clear();
    this.#next();
  }

  #next() {
    const now = performance.now();
    for (const [key, address] of this.wanted) {
      if (this.running.size >= AT_ONCE) return;
      if (this.running.has(key) || (this.paused.get(key) ?? 0) > now) continue;
      void this.#fetch(key, address);
    }
  }

  /** @param {string} key @param {string} address */
  async #fetch(key, address) {
    const control = new AbortController();
    this.running.set(key, control);
    try {
      await this.receive(key, await this.api.ask(address, { signal: control.signal }));
      this.wanted.delete(key);
    } catch (error) {
      if (!control.signal.aborted) {
        const passing = !(error instanceof ServerError) || error.passing || error.locked;
        this.paused.set(key, passing ? performance.now() + AGAIN : Infinity); // until `again`
        if (passing) setTimeout(() => this.#next(), AGAIN + 10);
        this.failed(key, error);
      }
    } finally {
      this.running.delete(key);
      this.#next();
    }
  }
}

/** Forget the oldest entries of a map above a number. @param {Map<string, any>} map @param {number} most @param {(value: any) => void} [close] */
function trim(map, most, close = () => {}) {
  for (const [key, value] of map) {
    if (map.size <= most) return;
    map.delete(key);
    close(value);
  }
}

/** The picture, as bitmaps. */
export class PictureTiles {
  /** @param {import("./api.js").Api} api @param {() => void} changed @param {(error: unknown) => void} failed */
  constructor(api, changed, failed) {
    /** @type {Map<string, ImageBitmap>} */
    this.tiles = new Map();
    this.loader = new Loader(api, async (key, answer) => {
      const options = /** @type {ImageBitmapOptions} */ ({ colorSpaceConversion: "none" });
      this.tiles.set(key, await createImageBitmap(await answer.blob(), options));
      changed();
    }, (_, error) => failed(error));
  }

  /**
   * Take a tile from here, or nothing.
   * @param {ImageRow} image @param {string} show the query that says how it is shown
   * @param {number} level @param {number} tx @param {number} ty
   */
  get(image, show, level, tx, ty) {
    const key = this.#address(image, show, level, tx, ty);
    const tile = this.tiles.get(key);
    if (tile) { // newest last
      this.tiles.delete(key);
      this.tiles.set(key, tile);
    }
    return tile;
  }

  /** @param {ImageRow} image @param {string} show @param {{level: number, tx: number, ty: number}[]} tiles */
  want(image, show, tiles) {
    const missing = tiles.map(({ level, tx, ty }) => this.#address(image, show, level, tx, ty)).filter((key) => !this.tiles.has(key));
    trim(this.tiles, Math.max(160, 3 * tiles.length), (bitmap) => bitmap.close());
    this.loader.want(new Map(missing.map((key) => [key, key])));
  }

  /** @param {ImageRow} image @param {string} show @param {number} level @param {number} tx @param {number} ty */
  #address(image, show, level, tx, ty) {
    return `/api/images/${image.index}/tile/${level}/${tx}/${ty}.png${show}`;
  }
}

/** A part of a mask on one level. */
export class LabelTile {
  /** @param {Layer} layer @param {number} level @param {number} tx @param {number} ty */
  constructor(layer, level, tx, ty) {
    this.layer = layer;
    this.level = level;
    this.tx = tx;
    this.ty = ty;
    this.width = 0;
    this.height = 0;
    this.revision = -1;
    /** @type {Uint8Array | Uint16Array | null} */
    this.data = null;
    /** What the server gave, while strokes are drawn on it that it did not contain. @type {Uint8Array | Uint16Array | null} */
    this.base = null;
    this.stale = 0; // counts what made it so
    this.fresh = false;
    /** @type {OffscreenCanvas | null} */
    this.canvas = null;
    this.style = "";
    this.inked = false; // whether any pixel of the canvas may be seen
    /** @type {Box | null} */
    this.dirty = null;
  }

  /** Note that pixels of this tile have to be coloured anew. @param {Box} box of the tile */
  soil([left, top, right, bottom]) {
    const box = this.dirty;
    this.dirty = box ? [Math.min(box[0], left), Math.min(box[1], top), Math.max(box[2], right), Math.max(box[3], bottom)] : [left, top, right, bottom];
  }

  soilAll() {
    this.soil([0, 0, this.width, this.height]);
  }
}

const TOUCHED = new Set(["classes", "objects"]); // by strokes
/** Layers whose colours depend on another one. @type {Partial<Record<Layer, Layer[]>>} */
const UNDER = { classes: ["network", "forest", "objects"], confidence: ["network"] };

/** The box in which two maps differ; null where they do not. @param {Uint8Array | Uint16Array} before @param {Uint8Array | Uint16Array} after @param {number} width @returns {Box | null} */
function changedBox(before, after, width) {
  const box = /** @type {Box} */ ([width, Infinity, 0, 0]);
  for (let at = 0; at < after.length; at++) {
    if (before[at] === after[at]) continue;
    const [x, y] = [at % width, Math.floor(at / width)];
    box[0] = Math.min(box[0], x);
    box[1] = Math.min(box[1], y);
    box[2] = Math.max(box[2], x + 1);
    box[3] = y + 1;
  }
  return box[2] ? box : null;
}

/** The masks of one image, and the strokes that are drawn on them before the server has. */
export class LabelTiles {
  /**
   * @param {import("./api.js").Api} api
   * @param {() => void} changed
   * @param {(error: unknown) => void} failed
   * @param {(layer: Layer, error: ServerError) => void} missing the server has no such suggestion
   */
  constructor(api, changed, failed, missing) {
    this.changed = changed;
    /** @type {ImageRow | null} */
    this.image = null;
    /** @type {Map<string, LabelTile>} */
    this.tiles = new Map();
    /** @type {{action: Action, revision: number | null}[]} */
    this.log = [];
    /** The stroke that is being drawn. @type {Action | null} */
    this.active = null;
    this.loader = new Loader(api, (key, answer) => this.#receive(key, answer), (key, error) => {
      const tile = this.tiles.get(key.split("#")[0]);
      const none = error instanceof ServerError && (error.status === 404 || error.status === 409);
      if (tile && none && !TOUCHED.has(tile.layer)) {
        tile.fresh = tile.stale === Number(key.split("#")[1]);
        tile.data = null;
        missing(tile.layer, error);
        changed();
      } else failed(error);
    });
  }

  /** @param {ImageRow} image @param {Action[]} waiting those the server has not answered */
  open(image, waiting) {
    this.image = image;
    this.tiles.clear();
    this.log = waiting.map((action) => ({ action, revision: null }));
    this.active = null;
  }

  /** @param {Layer} layer @param {number} level @param {number} tx @param {number} ty */
  get(layer, level, tx, ty) {
    return this.tiles.get(`${layer}/${level}/${tx}/${ty}`);
  }

  /** @param {{layer: Layer, level: number, tx: number, ty: number}[]} tiles all that are in sight */
  want(tiles) {
    const image = /** @type {ImageRow} */ (this.image);
    const wanted = new Map();
    for (const { layer, level, tx, ty } of tiles) {
      const key = `${layer}/${level}/${tx}/${ty}`;
      const tile = this.tiles.get(key) ?? new LabelTile(layer, level, tx, ty);
      this.tiles.delete(key);
      this.tiles.set(key, tile);
      if (!tile.fresh) wanted.set(`${key}#${tile.stale}`, `/api/images/${image.index}/mask/${level}/${tx}/${ty}.png?of=${layer}`);
    }
    trim(this.tiles, Math.max(200, 2 * tiles.length));
    this.loader.want(wanted);
  }

  /** @param {string} key @param {Response} answer */
  async #receive(key, answer) {
    const image = this.image;
    const [name, stale] = key.split("#");
    const { width, height, data } = await decodeLabels(new Uint8Array(await answer.arrayBuffer()));
    const tile = this.tiles.get(name);
    if (!tile || this.image !== image) return;
    const newest = tile.stale === Number(stale);
    if (!newest && TOUCHED.has(tile.layer)) return; // it is asked for anew
    const before = tile.width === width && tile.height === height ? tile.data : null;
    Object.assign(tile, { width, height, data, base: null, fresh: newest, revision: Number(answer.headers.get("X-Revision") ?? 0) });
    if (TOUCHED.has(tile.layer)) this.#redraw(tile);
    this.#soilAround(tile, before);
    if (!this.loader.running.size) this.#prune();
    this.changed();
  }

  /** What has changed is coloured anew, and what depends on it: outlines end at neighbours. @param {LabelTile} tile @param {LabelTile["data"]} before */
  #soilAround(tile, before) {
    const { layer, level, tx, ty, width, height, data } = tile;
    const box = before && data ? changedBox(before, data, width) : /** @type {Box} */ ([0, 0, width, height]);
    if (!box) return;
    const [left, top, right, bottom] = box;
    tile.soil(box);
    const beside = (/** @type {number} */ x, /** @type {number} */ y) => this.get(layer, level, tx + x, ty + y);
    if (left === 0) beside(-1, 0)?.soil([TILE - 1, top, TILE, bottom]);
    if (top === 0) beside(0, -1)?.soil([left, TILE - 1, right, TILE]);
    if (right === width) beside(1, 0)?.soil([0, top, 1, bottom]);
    if (bottom === height) beside(0, 1)?.soil([left, 0, right, 1]);
    for (const of of UNDER[layer] ?? []) this.get(of, level, tx, ty)?.soil(box);
  }

  /** The actions of the log that a revision does not contain, without those that were undone before they arrived. @param {number} revision */
  #after(revision) {
    /** @type {Action[]} */
    const done = [];
    /** @type {Action[]} */
    const undone = [];
    for (const { action, revision: answered } of this.log) {
      if (answered !== null && answered <= revision) continue;
      if (action.kind === "undo") {
        const last = done.pop();
        if (last) undone.push(last);
      } else if (action.kind === "redo") {
        const last = undone.pop();
        if (last) done.push(last);
      } else if (action.kind !== "complete") {
        done.push(action);
        undone.length = 0;
      }
    }
    if (this.active) done.push(this.active);
    return done;
  }

  /** Draw on what the server gave all that it did not contain. @param {LabelTile} tile */
  #redraw(tile) {
    const before = tile.data;
    if (tile.base) tile.data = tile.base.slice();
    const after = this.#after(tile.revision);
    if (after.length && !tile.base && tile.data) tile.base = tile.data.slice();
    for (const action of after) this.#draw(tile, action, this.#runs(action, tile.level));
    this.#soilAround(tile, before);
  }

  /** @param {Action} action @param {number} level */
  #runs(action, level) {
    const { width, height } = /** @type {ImageRow} */ (this.image);
    if (action.kind !== "strokes" || !action.points?.length) return null;
    if (action.tool === "fill") return level === 0 ? this.#fill(action) : null;
    return runsOf(/** @type {string} */ (action.tool), action.points, action.size ?? 1, gridOf(width, height, level));
  }

  /** What a fill covers, as far as it can be told from the tiles that are here. @param {Action} action @returns {Run[] | null} */
  #fill(action) {
    const [x, y] = /** @type {[number, number]} */ (action.points?.[0]).map(Math.floor);
    const [tx, ty] = [Math.floor(x / TILE), Math.floor(y / TILE)];
    const tile = this.get("classes", 0, tx, ty);
    const objects = this.get("objects", 0, tx, ty);
    if (!tile?.data) return null;
    const values = new Uint32Array(tile.data.length);
    for (let at = 0; at < values.length; at++) values[at] = tile.data[at] + (objects?.data ? objects.data[at] * 256 : 0);
    const runs = fillRuns(values, tile.width, tile.height, x - tx * TILE, y - ty * TILE);
    const touches = runs.some((run) => run.begin === 0 || run.end === tile.width || run.y === 0 || run.y === tile.height - 1);
    const { width, height } = /** @type {ImageRow} */ (this.image);
    if (touches && (width > TILE || height > TILE)) return null; // it goes on elsewhere; the server's answer shows it
    return runs.map((run) => ({ y: run.y + ty * TILE, begin: run.begin + tx * TILE, end: run.end + tx * TILE }));
  }

  /** @param {LabelTile} tile @param {Action} action @param {Run[] | null} runs */
  #draw(tile, action, runs) {
    if (!runs || !tile.data) return;
    const value = tile.layer === "classes" ? action.class ?? 0 : provisional(action.object);
    const [left, top] = [tile.tx * TILE, tile.ty * TILE];
    /** @type {Box} */
    const box = [tile.width, tile.height, 0, 0];
    for (const run of runs) {
      const y = run.y - top;
      const begin = Math.max(run.begin - left, 0);
      const end = Math.min(run.end - left, tile.width);
      if (y < 0 || y >= tile.height || begin >= end) continue;
      tile.data.fill(value, y * tile.width + begin, y * tile.width + end);
      box[0] = Math.min(box[0], begin);
      box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], end);
      box[3] = Math.max(box[3], y + 1);
    }
    if (box[0] < box[2]) tile.soil(box);
    if (box[0] < box[2]) for (const of of UNDER[tile.layer] ?? []) this.get(of, tile.level, tile.tx, tile.ty)?.soil(box);
  }

  /**
   * Draw an action, or a part of the one being drawn, on the tiles of the level in sight; others are asked for when they are seen.
   * @param {Action} action @param {number} level
   */
  draw(action, level) {
    const runs = this.#runs(action, level);
    const rows = runs ? runs.reduce(([least, most], { y }) => [Math.min(least, y), Math.max(most, y)], [Infinity, -Infinity]) : [0, -1];
    for (const tile of this.tiles.values()) {
      if (!TOUCHED.has(tile.layer) || !tile.data) continue;
      if (tile.level !== level) {
        this.#spoil(tile);
        continue;
      }
      if (!runs || rows[1] < tile.ty * TILE || rows[0] >= tile.ty * TILE + tile.height) continue;
      tile.base ??= tile.data.slice();
      this.#draw(tile, action, runs);
    }
    this.changed();
  }

  /** An action was sent off. @param {Action} action */
  add(action) {
    this.log.push({ action, revision: null });
    if (action.kind === "undo" || action.kind === "redo") {
      for (const tile of this.tiles.values()) if (tile.base) this.#redraw(tile);
      this.changed();
    }
  }

  /** The server has answered, or refused (null). @param {Action} action @param {number | null} revision */
  settle(action, revision) {
    const entry = this.log.find((each) => each.action.id === action.id);
    if (!entry) return;
    if (revision === null) this.log.splice(this.log.indexOf(entry), 1);
    else entry.revision = revision;
    if (revision === null) for (const tile of this.tiles.values()) if (tile.base) this.#redraw(tile);
    if (!this.loader.running.size) this.#prune();
  }

  /** Forget the actions that every tile contains which may still come. */
  #prune() {
    if (this.active || this.log.some(({ revision }) => revision === null)) return;
    const last = this.log.at(-1)?.revision;
    this.log = [];
    for (const tile of this.tiles.values()) {
      if (tile.base && last !== null && last !== undefined && tile.fresh) tile.revision = Math.max(tile.revision, last);
      tile.base = null;
    }
  }

  /** Parts of the masks have changed on the server. @param {Box[]} boxes @param {Layer[]} layers */
  change(boxes, layers) {
    for (const tile of this.tiles.values()) {
      if (!layers.includes(tile.layer)) continue;
      const step = 2 ** tile.level;
      const [left, top] = [tile.tx * TILE * step, tile.ty * TILE * step];
      const meets = boxes.some(([x0, y0, x1, y1]) => x0 < left + TILE * step && x1 > left && y0 < top + TILE * step && y1 > top);
      if (meets) this.#spoil(tile);
    }
    this.changed();
  }

  /** @param {LabelTile} tile */
  #spoil(tile) {
    tile.stale++;
    tile.fresh = false;
  }

  /** The value of a pixel of the picture, from whatever tile in sight has it. @param {Layer} layer @param {number} level @param {number} x @param {number} y */
  at(layer, level, x, y) {
    const [column, row] = [Math.floor(x / 2 ** level), Math.floor(y / 2 ** level)];
    const tile = this.get(layer, level, Math.floor(column / TILE), Math.floor(row / TILE));
    if (!tile?.data) return null;
    const [left, top] = [column - tile.tx * TILE, row - tile.ty * TILE];
    return left < tile.width && top < tile.height ? tile.data[top * tile.width + left] : null;
  }
}

/** The number that is shown for an object until the server has given one. @param {number | string | undefined} object */
function provisional(object) {
  if (typeof object !== "string") return object ?? 0;
  return 0xff00 + parseInt(object.split(":").pop()?.slice(-2) || "0", 16) % 255;
}
