// Elements of the page, by their ids and made anew.

/**
 * The element of an id, which index.html has.
 * @param {string} id
 * @returns {any}
 */
export function $(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`index.html has no element ${id}`);
  return found;
}

/**
 * Make an element.
 * @param {string} name
 * @param {Record<string, any>} [values] properties; those with a dash are attributes
 * @param {...(Node | string | null | undefined | false)} children
 * @returns {any}
 */
export function element(name, values = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(values)) {
    if (key.includes("-") || key === "role") made.setAttribute(key, value);
    else /** @type {any} */ (made)[key] = value;
  }
  made.append(.../** @type {(Node | string)[]} */ (children.filter((child) => child || child === "")));
  return made;
}

/**
 * Let buttons be a group of which one is chosen: by a click, and by arrows while one has the focus.
 * @param {HTMLElement} group
 * @param {(button: HTMLElement) => void} choose
 */
export function radios(group, choose) {
  const all = () => /** @type {HTMLElement[]} */ ([...group.querySelectorAll("[role=radio]")]);
  group.addEventListener("click", (event) => {
    const button = /** @type {HTMLElement} */ (event.target).closest("[role=radio]");
    if (button) choose(/** @type {HTMLElement} */ (button));
  });
  group.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    const buttons = all();
    const at = buttons.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    if (!step || at < 0) return;
    event.preventDefault();
    event.stopPropagation();
    const next = buttons[(at + step + buttons.length) % buttons.length];
    choose(next);
    next.focus();
  });
}

/** Mark the chosen one of a group. @param {HTMLElement} group @param {(button: HTMLElement) => boolean} chosen */
export function mark(group, chosen) {
  const buttons = /** @type {HTMLElement[]} */ ([...group.querySelectorAll("[role=radio]")]);
  const any = buttons.some(chosen);
  buttons.forEach((button, at) => {
    const is = chosen(button);
    button.setAttribute("aria-checked", `${is}`);
    button.tabIndex = is || (!any && at === 0) ? 0 : -1;
  });
}

/** A number for people. @param {number} value */
export const figure = (value) => value.toLocaleString("en");

/** So many of something. @param {number} count @param {string} one @param {string} [more] */
export const many = (count, one, more = `${one}s`) => `${figure(count)} ${count === 1 ? one : more}`;
