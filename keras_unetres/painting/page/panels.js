// The parts beside the picture: classes, the list of images, and what the network has learned.

import { $, element, figure, many, mark } from "./elements.js";
import { classColor } from "./palette.js";
import { UNKNOWN } from "./tools.js";
import { levelsOf } from "./view.js";

/** @typedef {import("./api.js").ImageRow} ImageRow */
/** @typedef {import("./api.js").Learner} Learner */

/** @param {import("./api.js").ClassRow[]} classes */
export function listClasses(classes) {
  const rows = [...classes, { id: UNKNOWN, name: "unknown (erases)", color: "" }];
  $("classes").replaceChildren(...rows.map((row) => {
    const chip = element("span", { className: "chip" });
    if (row.color) chip.style.background = classColor(row);
    const key = row.id === UNKNOWN ? "X" : row.id < 10 ? `${row.id}` : row.id < 20 ? `⇧${row.id - 10}` : "";
    return element("button", { type: "button", role: "radio", "data-class": `${row.id}` }, chip, row.name, key && element("kbd", { textContent: key, "aria-hidden": "true" }));
  }));
}

/** @param {number} id */
export function markClass(id) {
  mark($("classes"), (button) => button.dataset.class === `${id}`);
  const chosen = $("classes").querySelector("[aria-checked=true]");
  $("cycle").replaceChildren(chosen?.querySelector(".chip")?.cloneNode(true) ?? "");
  $("cycle").setAttribute("aria-label", `Class: ${chosen?.childNodes[1]?.textContent ?? "none"}. Press for the next one`);
}

/** Of a picture whose thumbnail is worth its reading, and that the network sees as a whole. */
export const MOST_PIXELS = 16_000_000;

/** The rows of the list, which stay as they are where nothing has changed. @type {Map<number, {row: any, button: any, thumbnail: any, says: any, mark: any}>} */
const listed = new Map();

/** @param {ImageRow} image */
function makeRow(image) {
  const thumbnail = element("img", { alt: "", loading: "lazy", decoding: "async", fetchPriority: "low", width: 42, height: 42 });
  const says = element("small");
  const mark = element("span", { className: "mark" });
  const button = element("button", { type: "button", "data-index": `${image.index}` },
    thumbnail, element("span", {}, element("b", { textContent: image.name }), says), mark);
  return { row: element("li", {}, button), button, thumbnail, says, mark };
}

/**
 * List the images, those first that teach most where an order is known.
 * @param {ImageRow[]} images
 * @param {import("./api.js").Suggestion[]} order
 * @param {number} current
 */
export function listImages(images, order, current) {
  const reasons = new Map(order.map((row) => [row.index, row.why]));
  const first = order.map(({ index }) => images[index]).filter(Boolean);
  const rest = images.filter(({ index }) => !reasons.has(index));
  const rows = [...first, ...rest].map((image) => {
    const made = listed.get(image.index) ?? makeRow(image);
    listed.set(image.index, made);
    const state = image.changed || (image.complete ? "complete" : image.painted ? many(image.painted, "stroke") : "not painted");
    const why = image.complete ? "" : reasons.get(image.index) ?? "";
    const label = [image.name, state, why].filter(Boolean).join(", ");
    if (!made.thumbnail.src && (image.width * image.height <= MOST_PIXELS || image.index === current)) {
      made.thumbnail.src = `/api/images/${image.index}/tile/${levelsOf(image.width, image.height) - 1}/0/0.png`;
    }
    made.button.title = label;
    made.button.setAttribute("aria-label", label);
    made.button.setAttribute("aria-current", `${image.index === current}`);
    made.says.textContent = why || state;
    made.mark.textContent = image.complete ? "✓" : image.painted ? "•" : "";
    return made.row;
  });
  const list = $("images");
  if (rows.length === list.childElementCount && rows.every((row, at) => list.children[at] === row)) return;
  const focused = list.contains(document.activeElement) ? /** @type {HTMLElement} */ (document.activeElement) : null;
  const { scrollTop } = list;
  list.replaceChildren(...rows);
  list.scrollTop = scrollTop;
  focused?.focus({ preventScroll: true });
}

/** Mark the image that is open. @param {number} current */
export function markImage(current) {
  const list = $("images");
  for (const button of list.querySelectorAll("button")) {
    const is = button.dataset.index === `${current}`;
    button.setAttribute("aria-current", `${is}`);
    if (!is) continue;
    const { offsetTop, offsetHeight } = button.parentElement; // the list alone is scrolled, not what is around it
    list.scrollTop = Math.min(Math.max(list.scrollTop, offsetTop + offsetHeight - list.clientHeight), offsetTop);
  }
}

const SAYS = /** @type {Record<string, string>} */ ({
  waiting: "It begins by itself.",
  training: "Learning from what is painted.",
  exporting: "Making the int8 file …",
  stopped: "Stopped. What was learned is kept, and goes on from there.",
  failed: "The training has failed.",
});
const COUNTS = /** @type {Record<string, string>} */ ({ images: "Images painted", complete: "Images complete", strokes: "Strokes" });

/** @param {Learner | null} learner */
export function showLearner(learner) {
  const none = !learner || learner.state === "none";
  $("learn").disabled = none;
  if (none) {
    $("learnerSays").textContent = "This server trains no network.";
    return;
  }
  const busy = learner.state === "training" || learner.state === "exporting";
  $("learn").textContent = busy ? "Stop learning" : learner.state === "stopped" ? "Go on learning" : "Start learning";
  $("learn").dataset.do = busy ? "stop" : "start";
  const epochs = busy && learner.epoch ? `Epoch ${learner.epoch}${learner.epochs ? ` of ${learner.epochs}` : ""}.` : "";
  const reason = learner.reason && `${learner.reason}${/[.!]$/.test(learner.reason) ? "" : "."}`;
  $("learnerSays").textContent = [SAYS[learner.state] ?? learner.state, epochs, reason].filter(Boolean).join(" ");
  drawCurve(learner.curve ?? [], learner.flattered ?? false);
  const rows = Object.entries(COUNTS).flatMap(([name, says]) => (learner.counts && name in learner.counts ? [[says, figure(learner.counts[name])]] : []));
  if (learner.round) rows.unshift(["Training", figure(learner.round)]);
  if (learner.file) rows.push(["File", learner.file.split("/").pop() ?? ""]);
  $("counts").replaceChildren(...rows.map(([name, value]) => element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: value }))));
}

const [WIDTH, HEIGHT, LEFT] = [280, 96, 4];

/**
 * Loss falls, mIoU rises.
 * @param {[number, number | null, number | null][]} curve epoch, loss, mIoU
 * @param {boolean} flattered whether the mIoU is that of images which were learned from
 */
function drawCurve(curve, flattered) {
  const svg = $("curve");
  const points = curve.filter(([, loss]) => loss !== null);
  svg.toggleAttribute("hidden", points.length < 2);
  if (points.length < 2) return;
  const [first, last] = [curve[0][0], curve[curve.length - 1][0]];
  const most = Math.max(...points.map(([, loss]) => Number(loss)));
  const x = (/** @type {number} */ step) => LEFT + (WIDTH - 2 * LEFT) * (step - first) / Math.max(1, last - first);
  const y = (/** @type {number} */ share) => HEIGHT - 14 - (HEIGHT - 26) * share;
  const make = (/** @type {string} */ name, /** @type {Record<string, string>} */ values, text = "") => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(values)) made.setAttribute(key, value);
    made.textContent = text;
    return made;
  };
  const line = (/** @type {[number, number][]} */ all) => all.map(([step, share]) => `${x(step).toFixed(1)},${y(share).toFixed(1)}`).join(" ");
  const scored = /** @type {[number, number][]} */ (curve.filter(([, , miou]) => miou !== null && miou !== undefined).map(([step, , miou]) => [step, miou]));
  const loss = Number(points[points.length - 1][1]);
  const children = [
    make("line", { class: "axis", x1: `${LEFT}`, x2: `${WIDTH - LEFT}`, y1: `${y(0)}`, y2: `${y(0)}` }),
    make("polyline", { class: "loss", points: line(points.map(([step, value]) => [step, Number(value) / (most || 1)])) }),
    make("text", { x: `${LEFT}`, y: `${HEIGHT - 2}` }, `loss ${loss.toPrecision(3)}`),
  ];
  let says = `Loss ${loss.toPrecision(3)} after epoch ${last}`;
  const best = scored.at(-1);
  if (best) {
    children.push(make("polyline", { class: "miou", points: line(scored) }), make("circle", { class: "dot", r: "3", cx: `${x(best[0])}`, cy: `${y(best[1])}` }));
    children.push(make("text", { class: "miouText", x: `${WIDTH - LEFT}`, y: `${HEIGHT - 2}`, "text-anchor": "end" }, `mIoU ${best[1].toFixed(3)}${flattered ? ", of what it learns from" : ""}`));
    says += `, mIoU ${best[1].toFixed(3)}${flattered ? ", on images that it learns from" : ""}`;
  }
  svg.setAttribute("aria-label", says);
  svg.replaceChildren(...children);
}
