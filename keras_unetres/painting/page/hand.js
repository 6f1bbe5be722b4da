// Mouse, pen and fingers on the picture: what moves it is done here, what paints is handed on as points of the picture.

import { quarter } from "./raster.js";

/** @typedef {import("./raster.js").Point} Point */

/**
 * What is done with a pointer that paints.
 * @typedef {object} Touching
 * @property {(point: Point, how: {erase: boolean, add: boolean, twice: boolean}) => void} down
 * @property {(points: Point[]) => void} move
 * @property {() => void} up
 * @property {() => void} cancel
 * @property {(point: Point | null) => void} hover
 * @property {() => boolean} moves whether the tool moves the picture
 * @property {() => boolean} round whether the tool shows where it paints
 * @property {() => void} looked zoom or place have changed
 */

const SECOND_FINGER = 350; // ms within which a second finger means that the first was not to paint

export class Hand {
  /**
   * @param {HTMLElement} stage
   * @param {import("./view.js").View} view
   * @param {Touching} tools
   */
  constructor(stage, view, tools) {
    this.stage = stage;
    this.view = view;
    this.tools = tools;
    /** @type {Map<number, {x: number, y: number, type: string}>} */
    this.down = new Map();
    /** @type {number | null} */
    this.painting = null;
    this.began = 0;
    this.pen = false; // was used: fingers rest on the screen then
    this.space = false;
    stage.addEventListener("pointerdown", (event) => this.#press(event));
    stage.addEventListener("pointermove", (event) => this.#move(event));
    for (const kind of /** @type {const} */ (["pointerup", "pointercancel"])) stage.addEventListener(kind, (event) => this.#lift(event));
    stage.addEventListener("pointerleave", () => tools.hover(null));
    stage.addEventListener("contextmenu", (event) => event.preventDefault());
    stage.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    for (const kind of ["gesturestart", "dragstart"]) stage.addEventListener(kind, (event) => event.preventDefault());
  }

  /** @param {MouseEvent} event @returns {[number, number]} device pixels of the canvas */
  #place(event) {
    const { left, top } = this.stage.getBoundingClientRect();
    return [(event.clientX - left) * devicePixelRatio, (event.clientY - top) * devicePixelRatio];
  }

  /** @param {MouseEvent} event @returns {Point} */
  #point(event) {
    const [x, y] = this.view.toPicture(...this.#place(event));
    return [quarter(x), quarter(y)];
  }

  /** Whether the space bar is held. @param {boolean} held */
  hold(held) {
    this.space = held;
    this.cursor();
  }

  cursor() {
    const moves = this.space || this.tools.moves();
    this.stage.dataset.cursor = moves ? (this.down.size ? "grabbing" : "grab") : this.tools.round() ? "none" : "crosshair";
  }

  /** @param {PointerEvent} event */
  #press(event) {
    event.preventDefault();
    this.stage.focus({ preventScroll: true });
    this.stage.setPointerCapture(event.pointerId);
    this.pen ||= event.pointerType === "pen";
    const [x, y] = this.#place(event);
    this.down.set(event.pointerId, { x, y, type: event.pointerType });
    const finger = event.pointerType === "touch";
    if (this.down.size > 1) {
      if (this.painting !== null && performance.now() - this.began < SECOND_FINGER) this.tools.cancel();
      else if (this.painting !== null) this.tools.up();
      this.painting = null;
    } else if (!(this.space || event.button === 1 || this.tools.moves() || (finger && this.pen))) {
      this.painting = event.pointerId;
      this.began = performance.now();
      const erase = event.button === 2 || event.button === 5 || (event.buttons & 32) !== 0;
      this.tools.down(this.#point(event), { erase, add: event.shiftKey, twice: event.detail > 1 });
    }
    this.cursor();
  }

  /** @param {PointerEvent} event */
  #move(event) {
    const held = this.down.get(event.pointerId);
    if (event.pointerType !== "touch") this.tools.hover(this.#point(event));
    if (!held) return;
    if (event.pointerId === this.painting) {
      const all = event.getCoalescedEvents?.() ?? [];
      this.tools.move((all.length ? all : [event]).map((each) => this.#point(each)));
      return;
    }
    const before = this.#middle();
    [held.x, held.y] = this.#place(event);
    const after = this.#middle();
    if (this.down.size > 1 && before.apart > 0) this.view.zoom(after.apart / before.apart, before.x, before.y);
    this.view.pan(after.x - before.x, after.y - before.y);
    this.tools.looked();
  }

  /** Where the pointers are, and how far from each other. */
  #middle() {
    const all = [...this.down.values()].slice(0, 2);
    const [x, y] = [all.reduce((sum, at) => sum + at.x, 0) / all.length, all.reduce((sum, at) => sum + at.y, 0) / all.length];
    return { x, y, apart: all.length > 1 ? Math.hypot(all[0].x - all[1].x, all[0].y - all[1].y) : 0 };
  }

  /** @param {PointerEvent} event */
  #lift(event) {
    this.down.delete(event.pointerId);
    if (event.pointerId === this.painting) {
      this.painting = null;
      if (event.type === "pointercancel") this.tools.cancel();
      else this.tools.up();
    }
    if (event.pointerType === "touch") this.tools.hover(null);
    this.cursor();
  }

  /** @param {WheelEvent} event */
  #wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 32 : event.deltaMode === 2 ? 400 : 1;
    const by = Math.min(Math.max(event.deltaY * lines, -400), 400);
    this.view.zoom(Math.exp(-by * (event.ctrlKey ? 0.01 : 0.002)), ...this.#place(event));
    this.tools.looked();
    this.tools.hover(this.#point(event));
  }
}
