// A surface of the size of the view in cells, each a canvas: a browser copies and composes a canvas whole when it is drawn on, so
// that in one of the view's size a dab would cost as much as the view. Cells on which nothing is drawn do not exist.

/** @typedef {import("./raster.js").Box} Box */

const CELL = 512; // device px of a side

export class Surface {
  /** @param {HTMLElement} holder of the cells */
  constructor(holder) {
    this.holder = holder;
    this.width = 0; // device px
    this.height = 0;
    /** @type {Map<string, CanvasRenderingContext2D>} */
    this.cells = new Map();
  }

  /** @param {number} width device px @param {number} height */
  resize(width, height) {
    Object.assign(this, { width, height });
    this.cells.clear();
    this.holder.replaceChildren();
  }

  /** Show nothing. */
  clear() {
    for (const { canvas } of this.cells.values()) canvas.hidden = true;
  }

  /** Show nothing in a part. @param {Box} box device px */
  erase(box) {
    for (const { column, row, part } of this.#parts(box)) {
      const context = this.cells.get(`${column}/${row}`);
      const [left, top, right, bottom] = part;
      if (context && !context.canvas.hidden) context.clearRect(left - column * CELL, top - row * CELL, right - left, bottom - top);
    }
  }

  /**
   * Draw on a part.
   * @param {Box} box device px
   * @param {(context: CanvasRenderingContext2D) => void} paint called for each cell, with places of the surface; what it draws beside
   *   the part is not seen
   */
  draw(box, paint) {
    for (const { column, row, part } of this.#parts(box)) {
      const [left, top, right, bottom] = part;
      const context = this.#cell(column, row);
      context.save();
      context.translate(-column * CELL, -row * CELL);
      context.beginPath();
      context.rect(left, top, right - left, bottom - top);
      context.clip();
      paint(context);
      context.restore();
    }
  }

  /** The parts of a box by cell, in whole pixels. @param {Box} box */
  *#parts([x0, y0, x1, y1]) {
    const [left, top] = [Math.max(0, Math.floor(x0)), Math.max(0, Math.floor(y0))];
    const [right, bottom] = [Math.min(this.width, Math.ceil(x1)), Math.min(this.height, Math.ceil(y1))];
    for (let row = Math.floor(top / CELL); row * CELL < bottom; row++) {
      for (let column = Math.floor(left / CELL); column * CELL < right; column++) {
        /** @type {Box} */
        const part = [Math.max(left, column * CELL), Math.max(top, row * CELL), Math.min(right, (column + 1) * CELL), Math.min(bottom, (row + 1) * CELL)];
        yield { column, row, part };
      }
    }
  }

  /** A cell, which is made, or empty, if it was not seen. @param {number} column @param {number} row */
  #cell(column, row) {
    const key = `${column}/${row}`;
    let context = this.cells.get(key);
    if (!context) {
      const canvas = document.createElement("canvas");
      const [left, top] = [column * CELL, row * CELL];
      const [width, height] = [Math.min(CELL, this.width - left), Math.min(CELL, this.height - top)];
      Object.assign(canvas, { width, height });
      const lengths = Object.entries({ left, top, width, height }).map(([name, length]) => [name, `${length / devicePixelRatio}px`]);
      Object.assign(canvas.style, Object.fromEntries(lengths));
      this.holder.append(canvas);
      context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
      this.cells.set(key, context);
    } else if (context.canvas.hidden) {
      context.canvas.hidden = false;
      context.clearRect(0, 0, context.canvas.width, context.canvas.height);
    }
    return context;
  }
}
