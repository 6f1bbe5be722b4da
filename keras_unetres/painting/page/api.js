// What the server is asked, and how its errors arrive. Nothing here keeps or repeats anything: `outbox.js` does.

/** @typedef {import("./raster.js").Box} Box */
/** @typedef {import("./raster.js").Point} Point */

/**
 * @typedef {{id: number, name: string, color: string}} ClassRow
 * @typedef {{index: number, name: string, width: number, height: number, channels: number, pages: number, dtype: string,
 *   complete: boolean, painted: number, revision: number, seen: boolean, changed?: string, can_undo?: boolean, can_redo?: boolean}} ImageRow
 * @typedef {{state: string, epoch?: number, epochs?: number, curve?: [number, number | null, number | null][], reason?: string | null,
 *   file?: string | null, counts?: Record<string, number>, round?: number, flattered?: boolean}} Learner
 * @typedef {{name: string, revision: number, classes: ClassRow[], images: ImageRow[], ignore: number, learner: Learner | null,
 *   background?: number | null, unwritten?: string, place?: string,
 *   forest: boolean, runs?: boolean, token?: string}} Project
 * @typedef {{revision: number, box: Box | null, boxes?: Box[], object?: number | null,
 *   complete?: boolean, can_undo?: boolean, can_redo?: boolean}} Changed what an action changed
 * @typedef {{index: number, score: number, why: string, box?: Box | null, again?: boolean}} Suggestion
 */

/** An answer that is no success, or none at all. */
export class ServerError extends Error {
  /**
   * @param {string} message
   * @param {{status: number, fix?: string}} about status 0 where no answer came
   */
  constructor(message, { status, fix }) {
    super(message);
    this.name = "ServerError";
    this.status = status;
    this.fix = fix ?? "";
  }

  /** Whether the same request may succeed later: there was no answer, or the server is in trouble. */
  get passing() {
    return this.status === 0 || this.status >= 500 || this.status === 429 || this.status === 408;
  }

  /** Whether the server does not know this page, such as after a new start with another token. */
  get locked() {
    return this.status === 401 || this.status === 403 || this.status === 421;
  }
}

/** Asks the server this page came from. */
export class Api {
  constructor() {
    const given = new URLSearchParams(location.search).get("token");
    const kept = sessionStorage.getItem("unetres-token") ?? "";
    /** @type {string} */
    this.token = given ?? kept;
    if (given) {
      sessionStorage.setItem("unetres-token", given);
      history.replaceState(null, "", location.pathname + location.hash); // it is not for screenshots and bookmarks
    }
  }

  /**
   * @param {string} path
   * @param {RequestInit} [options]
   * @returns {Promise<Response>}
   */
  async ask(path, options = {}) {
    let answer;
    try {
      const headers = { ...(this.token ? { "X-Unetres-Token": this.token } : {}), ...options.headers };
      answer = await fetch(path, { ...options, headers });
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") throw error;
      throw new ServerError("the server does not answer", { status: 0, fix: "start `unetres annotate` again; what you paint is kept here until then" });
    }
    if (answer.ok) return answer;
    const said = await answer.json().catch(() => ({}));
    throw new ServerError(said.error ?? `the server answers ${answer.status}`, { status: answer.status, fix: said.fix });
  }

  /** @param {string} path @param {RequestInit} [options] */
  async json(path, options) {
    return (await this.ask(path, options)).json();
  }

  /** @param {string} path @param {object} body @param {RequestInit} [options] */
  post(path, body, options = {}) {
    return this.json(path, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, ...options });
  }

  /** @returns {Promise<Project>} */
  async project() {
    const project = await this.json("/api/project");
    if (project.token) this.token = project.token;
    return project;
  }

  /** @returns {Promise<Suggestion[]>} */
  next() {
    return this.json("/api/next");
  }

  /** @returns {Promise<Learner>} */
  learner() {
    return this.json("/api/learner");
  }

  /** @param {"start" | "stop"} action */
  teach(action) {
    return this.post("/api/learner", { do: action });
  }

  /** The usual contrast of each channel. @param {number} image @returns {Promise<{limits: [number, number][]}>} */
  levels(image) {
    return this.json(`/api/images/${image}/levels`);
  }

  /** @param {number} image @param {Box} box @param {number} level */
  forest(image, box, level) {
    return this.post(`/api/images/${image}/forest`, { box, level });
  }

  /** @param {string} form @returns {Promise<{path: string, note?: string, page?: string}>} */
  export(form) {
    return this.post("/api/export", { form });
  }

  /** @returns {Promise<import("./review.js").Place[]>} */
  review() {
    return this.json("/api/review");
  }

  /** @param {string} key @param {boolean} done @returns {Promise<import("./review.js").Place>} */
  settle(key, done) {
    return this.post("/api/review", { key, done });
  }
}
