// Actions on their way to the server: in order, each until it is answered, across reloads and restarts of the server.
// Each is written down in this browser before it is sent, and crossed out when it is answered. Its id makes a repetition harmless.

import { ServerError } from "./api.js";

/** @typedef {import("./raster.js").Point} Point */
/** @typedef {import("./raster.js").Box} Box */
/** @typedef {import("./api.js").Changed} Changed */

/**
 * What was done to an image.
 * @typedef {object} Action
 * @property {string} id
 * @property {number} image
 * @property {"strokes" | "undo" | "redo" | "accept" | "complete"} kind the last word of its address
 * @property {string} [tool]
 * @property {number} [class]
 * @property {number | string} [object] "new", or "new:ID" for the one that action ID made
 * @property {number} [size]
 * @property {Point[]} [points]
 * @property {number} [other]
 * @property {string} [of]
 * @property {Point} [point]
 * @property {Box} [box]
 * @property {boolean} [unseen]
 * @property {Box} [within] where a region was seen
 * @property {number} [predicted] the class that it was seen to have
 * @property {boolean} [objects] whether what is accepted gets numbers
 * @property {boolean} [complete]
 * @property {string} [name] of the image, by which another session of the server knows it again
 * @property {string} [refused] what the server said against it
 * @property {string} [fix] what it said to do about it
 */

const PAINTS = new Set(["brush", "polygon", "lasso", "fill"]); // tools whose work is kept where the server refuses it
const FIRST_PAUSE = 250; // ms until it is tried again, doubled each time
const LAST_PAUSE = 4000;

/** A list that survives a reload: localStorage, which is written before it returns, then IndexedDB where that is full. */
export class Kept {
  /** @param {string} name by which the project is told from others */
  constructor(name) {
    this.start = `unetres/${name}/`;
    /** @type {Promise<IDBDatabase> | null} */
    this.database = null;
    this.spilled = new Set();
  }

  /** @param {string} key @param {Action} action */
  put(key, action) {
    const text = JSON.stringify(action);
    try {
      localStorage.setItem(this.start + key, text);
    } catch {
      this.spilled.add(key);
      return this.#in("readwrite", (store) => store.put(text, this.start + key));
    }
    return Promise.resolve();
  }

  /** @param {string} key */
  async remove(key) {
    localStorage.removeItem(this.start + key);
    if (this.spilled.delete(key)) await this.#in("readwrite", (store) => store.delete(this.start + key));
  }

  /** All that is kept, in the order of the keys. @returns {Promise<[string, Action][]>} */
  async all() {
    /** @type {[string, string][]} */
    const found = [];
    for (let at = 0; at < localStorage.length; at++) {
      const key = localStorage.key(at) ?? "";
      if (key.startsWith(this.start)) found.push([key, localStorage.getItem(key) ?? ""]);
    }
    const keys = await this.#in("readonly", (store) => store.getAllKeys()).catch(() => []);
    for (const key of keys) {
      if (!`${key}`.startsWith(this.start)) continue;
      found.push([`${key}`, await this.#in("readonly", (store) => store.get(key))]);
      this.spilled.add(`${key}`.slice(this.start.length));
    }
    found.sort(([a], [b]) => (a < b ? -1 : 1));
    return found.map(([key, text]) => [key.slice(this.start.length), JSON.parse(text)]);
  }

  /**
   * @param {IDBTransactionMode} mode
   * @param {(store: IDBObjectStore) => IDBRequest} doing
   * @returns {Promise<any>}
   */
  async #in(mode, doing) {
    this.database ??= new Promise((done, failed) => {
      const opening = indexedDB.open("unetres", 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore("actions");
      opening.onsuccess = () => done(opening.result);
      opening.onerror = () => failed(opening.error);
    });
    const database = await this.database;
    return new Promise((done, failed) => {
      const request = doing(database.transaction("actions", mode).objectStore("actions"));
      request.onsuccess = () => done(request.result);
      request.onerror = () => failed(request.error);
    });
  }
}

/** The queue of one tab. */
export class Outbox {
  /**
   * @param {import("./api.js").Api} api
   * @param {Kept} kept
   * @param {object} calls
   * @param {(image: number) => number} calls.base the newest revision of an image that is shown
   * @param {(action: Action, changed: Changed, base: number) => void} calls.answered with the revision that it was based on
   * @param {(action: Action, error: ServerError, kept: boolean) => void} calls.refused whether it is kept, to be tried again
   * @param {() => void} calls.changed something waits, or waits no more
   */
  constructor(api, kept, calls) {
    this.api = api;
    this.kept = kept;
    this.calls = calls;
    /** @type {{key: string, action: Action}[]} */
    this.waiting = [];
    /** @type {{key: string, action: Action}[]} */
    this.refused = [];
    /** @type {ServerError | null} */
    this.trouble = null;
    this.running = false;
    /** The numbers of objects that actions of this tab have made, by the id of the action. @type {Map<string, number>} */
    this.made = new Map();
    this.count = 0;
    this.pause = FIRST_PAUSE;
    /** @type {(() => void) | null} */
    this.wake = null;
  }

  /** Take up what an earlier life of this tab, or a tab that is closed, did not get rid of. @param {(action: Action) => number | null} place */
  async restore(place) {
    const mine = this.waiting.map(({ key }) => key);
    for (const [key, action] of await this.kept.all()) {
      if (mine.includes(key)) continue;
      const image = place(action);
      if (image === null) this.refused.push({ key, action: { ...action, refused: `this project has no image ${action.name}` } });
      else if (action.refused) this.refused.push({ key, action });
      else this.waiting.push({ key, action: { ...action, image } });
    }
    this.waiting.sort((a, b) => (a.key < b.key ? -1 : 1));
    this.calls.changed();
    void this.#run();
  }

  /** Write an action down and send it when those before it are answered. @param {Action} action */
  add(action) {
    const key = `${String(Date.now()).padStart(15, "0")}-${String(this.count++).padStart(6, "0")}-${action.id}`;
    const made = this.made.get(`${action.object}`.replace("new:", ""));
    if (made !== undefined) action.object = made; // it was answered while this one was drawn
    const entry = { key, action };
    this.waiting.push(entry);
    this.kept.put(key, action).catch(() => {}); // full: it is sent all the same
    this.calls.changed();
    void this.#run();
  }

  /** Those of an image that are not answered, oldest first. @param {number} image */
  of(image) {
    return this.waiting.filter(({ action }) => action.image === image).map(({ action }) => action);
  }

  /** Try at once what is waiting. */
  hurry() {
    this.pause = FIRST_PAUSE;
    this.wake?.();
    void this.#run();
  }

  /** Send again what was refused. */
  retry() {
    const again = this.refused.splice(0);
    for (const { key, action } of again) {
      delete action.refused;
      delete action.fix;
      this.waiting.push({ key, action });
      this.kept.put(key, action).catch(() => {});
    }
    this.calls.changed();
    void this.#run();
  }

  /** Give up what was refused. */
  discard() {
    for (const { key } of this.refused.splice(0)) void this.kept.remove(key);
    this.calls.changed();
  }

  async #run() {
    if (this.running) return;
    this.running = true;
    while (this.waiting.length) {
      const [entry] = this.waiting;
      const base = this.calls.base(entry.action.image);
      let changed;
      try {
        changed = await this.#send(entry.action, base);
      } catch (error) {
        const known = error instanceof ServerError ? error : new ServerError(`${error}`, { status: 0 });
        if (known.passing || known.locked) {
          this.trouble = known;
          this.#tell(() => this.calls.changed());
          await new Promise((done) => {
            this.wake = () => done(undefined);
            setTimeout(done, this.pause);
          });
          this.pause = Math.min(2 * this.pause, LAST_PAUSE);
        } else this.#refuse(known);
        continue;
      }
      this.trouble = null;
      this.pause = FIRST_PAUSE;
      this.waiting.shift();
      this.#name(entry.action, changed.object ?? 0);
      void this.kept.remove(entry.key);
      this.#tell(() => this.calls.answered(entry.action, changed, base));
      this.#tell(() => this.calls.changed());
    }
    this.running = false;
  }

  /** The server will not have the first of those that wait. @param {ServerError} error */
  #refuse(error) {
    this.trouble = null;
    const entry = /** @type {{key: string, action: Action}} */ (this.waiting.shift());
    const kept = PAINTS.has(entry.action.tool ?? "");
    if (kept) {
      Object.assign(entry.action, { refused: error.message, fix: error.fix });
      this.refused.push(entry);
      this.kept.put(entry.key, entry.action).catch(() => {});
    } else void this.kept.remove(entry.key);
    this.#tell(() => this.calls.refused(entry.action, error, kept));
    this.#tell(() => this.calls.changed());
  }

  /** Tell the page; a fault of it does not keep what waits from being sent. @param {() => void} call */
  #tell(call) {
    try {
      call();
    } catch (error) {
      reportError(error);
    }
  }

  /** @param {Action} action @param {number} base @returns {Promise<Changed>} */
  #send(action, base) {
    const { image, kind, name, refused, fix, ...body } = action;
    void name, refused, fix;
    if (typeof body.object === "string" && body.object.startsWith("new:")) body.object = "new"; // the action that made it was refused
    const sent = { ...body, base };
    const text = JSON.stringify(sent);
    return this.api.post(`/api/images/${image}/${kind}`, sent, text.length < 30_000 ? { keepalive: true } : {});
  }

  /** Give those that wait for an object its number. @param {Action} made @param {number} object */
  #name(made, object) {
    if (made.object === "new") this.made.set(made.id, object);
    for (const { key, action } of this.waiting) {
      if (action.object !== `new:${made.id}`) continue;
      action.object = object;
      this.kept.put(key, action).catch(() => {});
    }
  }
}

/** An id that no other action has; also where the page is served over plain http. */
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
