// What each tool does with the points of a pointer, and what it draws over the picture meanwhile.

import { newId } from "./outbox.js";

/** @typedef {import("./raster.js").Point} Point */
/** @typedef {import("./hand.js").Touching} Touching */
/** @typedef {import("./outbox.js").Action} Action */
/** @typedef {"brush" | "eraser" | "fill" | "polygon" | "lasso" | "pick" | "split" | "merge" | "hand"} Tool */

export const UNKNOWN = 255;
const MOST_POINTS = 5000; // of a stroke, after which it goes on as another
const CLOSE = 10; // device pixels from the first corner within which a click closes a polygon

/**
 * What is painted with.
 * @typedef {object} Brush
 * @property {Tool} tool
 * @property {number} class
 * @property {number} size px of the picture
 * @property {boolean} objects whether objects have numbers
 * @property {number | string} object "new", a number, or "new:ID"
 * @property {boolean} picked whether the object was picked, so that outlines belong to it, too; else each is a new one
 */

/** @implements {Touching} */
export class Tools {
  /**
   * @param {Brush} brush
   * @param {import("./view.js").View} view
   * @param {import("./tiles.js").LabelTiles} labels
   * @param {HTMLElement} ring that shows the brush
   * @param {object} calls
   * @param {(action: Action) => void} calls.commit
   * @param {(text: string) => void} calls.say
   * @param {(what: "paint" | "over") => void} calls.draw
   * @param {() => void} calls.looked
   * @param {(id: number, object: number) => void} calls.picked
   * @param {(id: number) => string} calls.color of a class
   * @param {(point: Point | null) => void} calls.hovered
   */
  constructor(brush, view, labels, ring, calls) {
    this.brush = brush;
    this.view = view;
    this.labels = labels;
    this.ring = ring;
    this.calls = calls;
    this.image = 0;
    this.name = "";
    /** @type {Point | null} */
    this.at = null;
    /** The corners of a polygon, the points of a lasso or of a line. @type {Point[]} */
    this.points = [];
    this.erasing = false;
    /** @type {number} */
    this.first = 0; // object that is to be merged with another
    this.aim = false; // a crosshair moved by keys
  }

  get looked() {
    return this.calls.looked;
  }

  moves() {
    return this.brush.tool === "hand";
  }

  /** Whether the tool is a disc that is large enough to be seen. */
  round() {
    const { tool, size } = this.brush;
    return (tool === "brush" || tool === "eraser") && size * this.view.scale >= 8 * devicePixelRatio;
  }

  /** Whether there is something to draw over the picture. */
  get drawn() {
    return this.points.length > 0 || (this.aim && this.at !== null);
  }

  /** Something is begun that Enter ends and Escape gives up. */
  get busy() {
    return this.points.length > 0 || this.first > 0;
  }

  /** @param {Point | null} point */
  hover(point) {
    const { drawn } = this;
    this.at = point;
    if (point) this.aim = false;
    this.calls.hovered(point);
    this.placeRing();
    if (drawn) this.calls.draw("over");
  }

  /** Show the brush where the pointer is. */
  placeRing() {
    const { at, ring, view } = this;
    const { tool, size } = this.brush;
    ring.hidden = !at || !(tool === "brush" || tool === "eraser");
    if (!at || ring.hidden) return;
    const [x, y] = view.toCanvas(...at);
    const across = Math.max(size * view.scale, 3) / devicePixelRatio;
    const corner = (/** @type {number} */ place) => `${(place / devicePixelRatio - across / 2).toFixed(2)}px`;
    ring.style.transform = `translate(${corner(x)}, ${corner(y)})`;
    ring.style.width = ring.style.height = `${across.toFixed(2)}px`;
    ring.style.borderColor = this.color;
  }

  /** The colour of what is painted. */
  get color() {
    const id = this.erasing || this.brush.tool === "eraser" ? UNKNOWN : this.brush.class;
    return id === UNKNOWN ? "#ffffff" : this.calls.color(id);
  }

  /** @param {Point} point @param {{erase: boolean, add: boolean, twice: boolean}} how */
  down(point, { erase, twice }) {
    const { tool } = this.brush;
    this.at = point;
    if (tool === "polygon") {
      this.erasing = erase || (this.erasing && this.points.length > 0);
      const [first] = this.points;
      const near = first && Math.hypot(point[0] - first[0], point[1] - first[1]) * this.view.scale < CLOSE * devicePixelRatio;
      if (this.points.length > 2 && (near || twice)) this.finish();
      else if (!twice) this.points.push(point);
      this.calls.draw("over");
      return;
    }
    this.erasing = erase || tool === "eraser";
    if (tool === "brush" || tool === "eraser") {
      this.#begin([point]);
    } else if (tool === "lasso" || tool === "split") {
      this.points = [point];
    } else if (tool === "fill") {
      const action = this.#action("fill", [point]);
      this.erasing = false;
      this.labels.draw(action, this.view.level);
      this.calls.commit(action);
    } else if (tool === "pick") this.#pick(point);
    else if (tool === "merge") this.#merge(point);
  }

  /** @param {Point[]} points */
  #begin(points) {
    const action = this.#action("brush", points);
    this.labels.active = action;
    this.labels.draw(action, this.view.level);
  }

  /** @param {Point[]} points */
  move(points) {
    this.at = points.at(-1) ?? this.at;
    const { active } = this.labels;
    if (active?.points) {
      const fresh = [/** @type {Point} */ (active.points.at(-1))];
      for (const point of points) if (point[0] !== fresh.at(-1)?.[0] || point[1] !== fresh.at(-1)?.[1]) fresh.push(point);
      this.placeRing();
      if (fresh.length < 2) return;
      active.points.push(...fresh.slice(1));
      this.labels.draw({ ...active, points: fresh }, this.view.level);
      if (active.points.length > MOST_POINTS) {
        const { erasing } = this;
        this.up();
        this.erasing = erasing;
        this.#begin([/** @type {Point} */ (fresh.at(-1))]);
      }
    } else if (this.points.length && (this.brush.tool === "lasso" || this.brush.tool === "split")) {
      this.points.push(...points);
      this.calls.draw("over");
    }
  }

  up() {
    const { active } = this.labels;
    const { tool } = this.brush;
    if (active) {
      this.labels.active = null;
      this.erasing = false;
      this.calls.commit(active);
    } else if (tool === "lasso" || tool === "split") this.finish();
  }

  /** End what is begun: close the polygon or the lasso, cut along the line. */
  finish() {
    const { tool } = this.brush;
    const points = this.points.filter((point, at, all) => at === 0 || point[0] !== all[at - 1][0] || point[1] !== all[at - 1][1]);
    this.points = [];
    if (tool === "split") this.#split(points);
    else if (points.length > 2) {
      const action = this.#action(tool, thin(points, 4 * MOST_POINTS));
      this.labels.draw(action, this.view.level);
      this.calls.commit(action);
    }
    this.erasing = false;
    this.calls.draw("over");
  }

  /** Give up what is begun. */
  cancel() {
    const { active } = this.labels;
    this.points = [];
    this.first = 0;
    this.erasing = false;
    if (active) {
      this.labels.active = null;
      this.labels.log.push({ action: active, revision: null });
      this.labels.settle(active, null);
    }
    this.calls.draw("paint");
  }

  /** Take back the last corner of a polygon. */
  back() {
    this.points.pop();
    this.calls.draw("over");
  }

  /** Paint where the crosshair is, as a click does. */
  dab() {
    if (!this.at) return;
    const point = this.at;
    this.down(point, { erase: false, add: false, twice: false });
    if (this.labels.active) this.up();
    this.at = point;
  }

  /** @param {string} tool @param {Point[]} points @returns {Action} */
  #action(tool, points) {
    const id = this.erasing ? UNKNOWN : this.brush.class;
    const numbered = this.brush.objects && id !== UNKNOWN && id !== 0;
    const outline = (tool === "polygon" || tool === "lasso") && !this.brush.picked;
    const object = !numbered ? 0 : outline ? "new" : this.brush.object;
    const size = this.brush.size;
    return { id: newId(), image: this.image, name: this.name, kind: "strokes", tool, class: id, object, size, points };
  }

  /** @param {Point} point */
  #pick(point) {
    const id = this.labels.at("classes", this.view.level, ...point);
    if (id === null) return;
    this.calls.picked(id, this.#object(point));
  }

  /** @param {Point} point */
  #object(point) {
    return this.labels.at("objects", this.view.level, ...point) ?? 0;
  }

  /** @param {Point} point */
  #merge(point) {
    const object = this.#object(point);
    if (!object) this.calls.say("No object is there. Click one, then the one that belongs to it.");
    else if (!this.first || this.first === object) {
      this.first = object;
      this.calls.say(`Object ${object}: now click the one that belongs to it.`);
    } else {
      this.calls.commit({ ...this.#action("merge", [point]), object: this.first, other: object });
      this.calls.say(`Object ${object} belongs to object ${this.first} now.`);
      this.first = 0;
    }
  }

  /** @param {Point[]} points */
  #split(points) {
    const [from, to] = [points[0], points.at(-1)];
    if (!from || !to || points.length < 2) return;
    /** @type {Map<number, number>} */
    const counts = new Map();
    const steps = Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1])) || 1;
    for (let step = 0; step <= steps; step++) {
      const object = this.#object([from[0] + (to[0] - from[0]) * step / steps, from[1] + (to[1] - from[1]) * step / steps]);
      if (object) counts.set(object, (counts.get(object) ?? 0) + 1);
    }
    const [found] = [...counts].sort(([, a], [, b]) => b - a);
    if (!found) this.calls.say("The line meets no object. Draw it right through one.");
    else this.calls.commit({ ...this.#action("split", [from, to]), object: found[0] });
  }

  /** Where `draw` draws, device px; null where it draws nothing. @returns {import("./raster.js").Box | null} */
  get inkBox() {
    if (!this.drawn) return null;
    const { size } = this.brush;
    const points = [...this.points, ...(this.at ? [this.at] : [])].map(([x, y]) => this.view.toCanvas(x, y));
    const rim = 12 * devicePixelRatio + (this.aim ? size / 2 * this.view.scale : 0);
    const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
    return [least(xs) - rim, least(ys) - rim, most(xs) + rim, most(ys) + rim];
  }

  /** Draw the brush and what is begun. @param {CanvasRenderingContext2D} context */
  draw(context) {
    const { tool, size } = this.brush;
    const { view, at } = this;
    const ratio = devicePixelRatio;
    const ink = (/** @type {string} */ color, /** @type {number} */ width) => Object.assign(context, { strokeStyle: color, lineWidth: width * ratio });
    const twice = (/** @type {() => void} */ path, /** @type {string} */ color) => {
      for (const [shade, width] of /** @type {[string, number][]} */ ([["#000a", 3.5], [color, 1.6]])) {
        ink(shade, width);
        context.beginPath();
        path();
        context.stroke();
      }
    };
    const { color } = this;
    if (this.points.length) {
      const line = [...this.points, ...(tool === "lasso" || !at ? [] : [at])].map(([x, y]) => view.toCanvas(x, y));
      if (tool === "split" && line.length > 2) line.splice(1, line.length - 2);
      twice(() => {
        for (const [x, y] of line) context.lineTo(x, y);
        if (tool === "lasso") context.closePath();
      }, color);
      if (tool === "polygon") {
        for (const [x, y] of line.slice(0, this.points.length)) {
          context.fillStyle = color;
          context.fillRect(x - 3 * ratio, y - 3 * ratio, 6 * ratio, 6 * ratio);
          ink("#000a", 1);
          context.strokeRect(x - 3 * ratio, y - 3 * ratio, 6 * ratio, 6 * ratio);
        }
      }
    }
    if (!at || !this.aim) return;
    const [x, y] = view.toCanvas(...at);
    const gap = (tool === "brush" || tool === "eraser" ? size / 2 * view.scale : 0) + 3 * ratio;
    twice(() => {
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + dx * gap, y + dy * gap);
        context.lineTo(x + dx * (gap + 7 * ratio), y + dy * (gap + 7 * ratio));
      }
    }, color);
  }
}

/** @param {number[]} values */
const least = (values) => values.reduce((a, b) => Math.min(a, b));
/** @param {number[]} values */
const most = (values) => values.reduce((a, b) => Math.max(a, b));

/** Leave out points evenly until there are no more than `most`. @param {Point[]} points @param {number} most */
function thin(points, most) {
  const every = Math.ceil(points.length / most);
  return points.filter((_, at) => at % every === 0);
}
