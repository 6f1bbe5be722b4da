// What is to be looked at: faults of a check and suspects, one after the other, each at its place, until it is done.

import { $ } from "./elements.js";

/** @typedef {import("./raster.js").Box} Box */

/**
 * @typedef {{key: string, image: string, index: number | null, box: Box | null, kind: string, says: string, fix: string, done: boolean}} Place
 */

export class Review {
  /**
   * @param {import("./api.js").Api} api
   * @param {object} page
   * @param {(place: Place) => void} page.show opens the image of a place, and brings the place into sight
   * @param {() => void} page.draw
   * @param {(text: string) => void} page.say
   */
  constructor(api, page) {
    this.api = api;
    this.page = page;
    /** @type {Place[]} */
    this.places = [];
    /** @type {Place | null} */
    this.at = null;
  }

  /** Ask for the list, which is empty in most projects. */
  async load() {
    this.places = await this.api.review();
    if (this.at) this.at = this.places.find(({ key }) => key === this.at?.key) ?? null;
    this.#write();
  }

  get open() {
    return this.places.filter(({ done }) => !done);
  }

  /** Go to the next place that is open, or to the previous one. @param {1 | -1} by */
  step(by) {
    const { at, places } = this;
    const from = at ? places.indexOf(at) : by > 0 ? -1 : 0;
    for (let count = 1; count <= places.length; count++) {
      const next = places[(from + by * count + places.length * (count + 1)) % places.length];
      if (next.done) continue;
      this.#go(next);
      return;
    }
    this.page.say(places.length ? "Everything is done." : "There is nothing to look at.");
  }

  /** @param {Place} place */
  #go(place) {
    this.at = place;
    this.page.show(place);
    this.#write();
    this.page.say(`${this.#which(place)}: ${place.says}`);
  }

  /** @param {Place} place */
  #which(place) {
    return `${this.places.indexOf(place) + 1} of ${this.places.length}, ${place.image || "the whole data set"}`;
  }

  /** Say that the place at hand is done, and go on; or open it again. */
  async settle() {
    const place = this.at;
    if (!place) return this.step(1);
    this.hear(await this.api.settle(place.key, !place.done));
    if (this.at?.done) this.step(1);
  }

  /** A place was marked, here or by someone else. @param {Place} row */
  hear(row) {
    const known = this.places.find(({ key }) => key === row.key);
    if (!known) return;
    known.done = row.done;
    this.#write();
    this.page.draw();
  }

  #write() {
    const { at, places, open } = this;
    $("review").hidden = !places.length;
    $("reviewCount").textContent = `${open.length} open of ${places.length}`;
    $("reviewSays").textContent = at ? `${this.#which(at)}: ${at.says}.` : "Faults of a check, and masks that a network contradicts. Mend them with any tool.";
    $("reviewFix").textContent = at?.fix ? `In the data set: ${at.fix}` : "";
    $("reviewDone").textContent = at?.done ? "Open again" : "Done";
    $("reviewDone").disabled = !at;
    $("reviewUnknown").disabled = !at?.box;
    $("reviewOn").disabled = $("reviewBack").disabled = !open.length;
  }

  /** Where `draw` draws, device px. @param {import("./view.js").View} view @returns {Box} */
  inkBox(view) {
    const [x0, y0, x1, y1] = /** @type {Box} */ (this.at?.box);
    const rim = 7 * devicePixelRatio;
    const [[left, top], [right, bottom]] = [view.toCanvas(x0, y0), view.toCanvas(x1, y1)];
    return [left - rim, top - rim, right + rim, bottom + rim];
  }

  /**
   * Frame the place at hand, if it is `framed`.
   * @param {CanvasRenderingContext2D} context @param {import("./view.js").View} view
   */
  draw(context, view) {
    const [x0, y0, x1, y1] = /** @type {Box} */ (this.at?.box);
    const gap = 4 * devicePixelRatio;
    const [[left, top], [right, bottom]] = [view.toCanvas(x0, y0), view.toCanvas(x1, y1)];
    for (const [color, width] of /** @type {[string, number][]} */ ([["#000b", 4], ["#ffd591", 2]])) {
      context.setLineDash([8 * devicePixelRatio, 5 * devicePixelRatio]);
      Object.assign(context, { strokeStyle: color, lineWidth: width * devicePixelRatio });
      context.strokeRect(left - gap, top - gap, right - left + 2 * gap, bottom - top + 2 * gap);
    }
    context.setLineDash([]);
  }

  /** Whether there is a place to frame on an image. @param {number} image */
  framed(image) {
    return !!this.at?.box && !this.at.done && this.at.index === image;
  }
}
