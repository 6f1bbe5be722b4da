// Every key, what it does and what the page says of it: the help is made from the same table that is obeyed.

/**
 * @typedef {object} Key
 * @property {string} group
 * @property {string} shown how the key is written
 * @property {string} says
 * @property {(event: KeyboardEvent) => boolean} fits
 * @property {(event: KeyboardEvent) => void} does
 */

/** @param {KeyboardEvent} event */
const plain = (event) => !event.ctrlKey && !event.metaKey && !event.altKey;

/** A letter or a sign, whatever Shift does to it. @param {string} wanted */
const sign = (wanted) => (/** @type {KeyboardEvent} */ event) => plain(event) && event.key.toLowerCase() === wanted;

/** A key by its name, without Shift unless it is asked for. @param {string} name @param {boolean} [shift] */
const named = (name, shift = false) => (/** @type {KeyboardEvent} */ event) => plain(event) && event.key === name && event.shiftKey === shift;

/** A letter with Ctrl or Cmd. @param {string} letter @param {boolean} shift */
const control = (letter, shift) => (/** @type {KeyboardEvent} */ event) =>
  (event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === letter && event.shiftKey === shift;

const DIGIT = /^(?:Digit|Numpad)(\d)$/;

/**
 * Make the table.
 * @param {Record<string, (...values: any[]) => void>} page what can be done
 * @returns {Key[]}
 */
export function keyTable(page) {
  /** @type {[string, [string, string, (event: KeyboardEvent) => boolean, (event: KeyboardEvent) => void][]][]} */
  const groups = [
    ["Tools", [
      ["B", "brush", sign("b"), () => page.tool("brush")],
      ["E", "eraser", sign("e"), () => page.tool("eraser")],
      ["P", "polygon; Enter closes it, Backspace takes a corner back", sign("p"), () => page.tool("polygon")],
      ["L", "lasso", sign("l"), () => page.tool("lasso")],
      ["F", "fill", sign("f"), () => page.tool("fill")],
      ["I", "pick class and object", sign("i"), () => page.tool("pick")],
      ["S", "split an object by a line", sign("s"), () => page.tool("split")],
      ["M", "merge two objects", sign("m"), () => page.tool("merge")],
      ["H", "move the picture; Space while held", sign("h"), () => page.tool("hand")],
      ["[  ]", "smaller, larger brush", (event) => plain(event) && /^[[\]{}]$/.test(event.key), (event) => page.resize(/[\]}]/.test(event.key) ? 1 : -1)],
      ["Escape", "give up what is begun", named("Escape"), () => page.cancel()],
    ]],
    ["Classes", [
      ["0 – 9", "class; of the region that is chosen, if one is", (event) => plain(event) && !event.shiftKey && DIGIT.test(event.code), (event) => page.digit(Number(DIGIT.exec(event.code)?.[1]))],
      ["Shift 0 – 9", "class 10 to 19", (event) => plain(event) && event.shiftKey && DIGIT.test(event.code), (event) => page.digit(10 + Number(DIGIT.exec(event.code)?.[1]))],
      ["X", "unknown: not painted", sign("x"), () => page.digit(255)],
      ["A", "begin another object", sign("a"), () => page.another()],
    ]],
    ["Back and forth", [
      ["Ctrl Z", "undo", control("z", false), () => page.undo()],
      ["Ctrl Shift Z", "redo; also Ctrl Y", (event) => control("z", true)(event) || control("y", false)(event), () => page.redo()],
    ]],
    ["Suggestions", [
      ["G", "show what is answered at once", sign("g"), () => page.guess("forest")],
      ["W", "show the network's", sign("w"), () => page.guess("network")],
      [".  ,", "next, previous region", (event) => plain(event) && (event.key === "." || event.key === ","), (event) => page.region(event.key === "." ? 1 : -1)],
      ["Enter", "accept the region; without one, the one under the pointer", named("Enter"), () => page.enter()],
      ["Backspace", "reject it: it is background", (event) => plain(event) && (event.key === "Backspace" || event.key === "Delete"), () => page.backspace()],
      ["Shift Enter", "accept everything on this image", named("Enter", true), () => page.acceptAll()],
    ]],
    ["Images", [
      ["Page Down", "next image", named("PageDown"), () => page.image(1)],
      ["Page Up", "previous image", named("PageUp"), () => page.image(-1)],
      ["N", "the image that teaches most", sign("n"), () => page.suggested()],
      ["C", "complete, or not yet", sign("c"), () => page.complete()],
    ]],
    ["What is to be looked at", [
      ["J  K", "next, previous fault or suspect", (event) => plain(event) && /^[jk]$/i.test(event.key), (event) => page.place(/j/i.test(event.key) ? 1 : -1)],
      ["D", "it is done, and on to the next; or open again", sign("d"), () => page.settle()],
      ["U", "what is in its frame is unknown", sign("u"), () => page.eraseFramed()],
    ]],
    ["View", [
      ["Arrows", "move the picture", (event) => plain(event) && !event.shiftKey && event.key.startsWith("Arrow"), (event) => page.pan(event.key)],
      ["Shift Arrows", "move a crosshair; Enter paints there", (event) => plain(event) && event.shiftKey && event.key.startsWith("Arrow"), (event) => page.aim(event.key)],
      ["+  -", "zoom", (event) => plain(event) && /^[-+=_]$/.test(event.key), (event) => page.zoom(/[+=]/.test(event.key) ? 1.25 : 0.8)],
      ["Home", "whole picture", named("Home"), () => page.fit()],
      ["End", "one pixel to a pixel", named("End"), () => page.natural()],
      ["O", "outlines only", sign("o"), () => page.toggle("outlines")],
      ["V", "objects in colours", sign("v"), () => page.toggle("byObject")],
      ["Q", "hide the paint while held", sign("q"), () => page.peek(true)],
      [";  '", "paler, stronger paint", (event) => plain(event) && (event.key === ";" || event.key === "'"), (event) => page.opacity(event.key === "'" ? 10 : -10)],
      ["?", "these keys", (event) => plain(event) && (event.key === "?" || event.key === "F1"), () => page.help()],
    ]],
  ];
  return groups.flatMap(([group, rows]) => rows.map(([shown, says, fits, does]) => ({ group, shown, says, fits, does })));
}

/** Write the table into the help. @param {HTMLElement} place @param {Key[]} keys */
export function showKeys(place, keys) {
  const groups = [...new Set(keys.map(({ group }) => group))];
  place.replaceChildren(...groups.map((group) => {
    const section = document.createElement("section");
    const list = document.createElement("dl");
    for (const { shown, says } of keys.filter((key) => key.group === group)) {
      const row = document.createElement("div");
      const key = document.createElement("dd");
      const parts = shown.split(/(  | – | )/).filter(Boolean);
      key.append(...parts.map((part) => (part.trim() && part !== " – " ? Object.assign(document.createElement("kbd"), { textContent: part }) : part === " – " ? "–" : " ")));
      row.append(Object.assign(document.createElement("dt"), { textContent: says }), key);
      list.append(row);
    }
    section.append(Object.assign(document.createElement("h3"), { textContent: group }), list);
    return section;
  }));
}
