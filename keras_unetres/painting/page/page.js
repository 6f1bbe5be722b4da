// The page: one picture, what is painted on it, and what is suggested. This module joins the others; each of them says what it does.

import { Api, ServerError } from "./api.js";
import { $, element, figure, many, mark, radios } from "./elements.js";
import { listenTogether } from "./events.js";
import { Hand } from "./hand.js";
import { keyTable, showKeys } from "./keys.js";
import { Kept, newId, Outbox } from "./outbox.js";
import { classColor } from "./palette.js";
import { listClasses, listImages, markClass, markImage, MOST_PIXELS, showLearner } from "./panels.js";
import { drawRegion, findRegions, holds, inkBox } from "./regions.js";
import { Review } from "./review.js";
import { Scene } from "./scene.js";
import { LabelTiles, PictureTiles } from "./tiles.js";
import { Tools, UNKNOWN } from "./tools.js";
import { View } from "./view.js";

/** @typedef {import("./api.js").ImageRow} ImageRow */
/** @typedef {import("./raster.js").Box} Box */
/** @typedef {import("./regions.js").Region} Region */

const api = new Api();
const view = new View();
/** @type {import("./api.js").Project} */
let project;
/** @type {ImageRow | null} */
let image = null;
/** @type {import("./api.js").Suggestion[]} */
let order = [];
/** The newest revision of each image that is shown here. @type {Map<number, number>} */
const revisions = new Map();
/** What was heard while an action was under way, whose answer says the same. @type {any[]} */
let heard = [];
/** @type {Outbox} */
let outbox;
/** @type {Region[]} */
let regions = [];
/** @type {Region | null} */
let region = null;
let shown = ""; // the message of the notice

/** @type {import("./tools.js").Brush} */
const brush = { tool: "brush", class: 1, size: 0, objects: false, object: "new", picked: false };
/** @type {import("./scene.js").Look} */
const look = { paint: true, outlines: false, byObject: false, opacity: 0.5, guess: "", confidence: true, show: "" };

const pictures = new PictureTiles(api, () => scene.draw("picture"), complain);
const labels = new LabelTiles(api, () => {
  scene.draw("paint");
  settleRegions();
  if (region) refreshSoon();
}, complain, (layer, error) => {
  if (layer !== look.guess) return;
  const learner = project.learner;
  const first = layer === "network" && learner && !learner.file && /training|exporting/.test(learner.state);
  sayGuess(first ? "the first network is being trained" : [error.message, error.fix].filter(Boolean).join(": "));
});
const holders = { guess: $("guess"), paint: $("paint"), over: $("over") };
const scene = new Scene($("picture"), holders, view, pictures, labels, look);
const tools = new Tools(brush, view, labels, $("ring"), {
  commit,
  say,
  draw: (what) => scene.draw(what),
  looked,
  color: (id) => classColor(project.classes[id] ?? { id, color: "#ffffff" }),
  picked: (id, object) => {
    chooseClass(id);
    if (object) {
      brush.objects = $("objects").checked = true;
      Object.assign(brush, { object, picked: true });
    }
    say(`${className(id)}${object ? `, object ${object}` : ""}`);
    showObject();
    chooseTool("brush");
  },
  hovered: tellWhere,
});
const hand = new Hand($("stage"), view, tools);
const review = new Review(api, { show: showPlace, draw: () => scene.draw("over"), say });
scene.ink = {
  box: () => {
    tools.placeRing();
    hand.cursor();
    const boxes = [tools.inkBox, region && inkBox(view, region), review.framed(image?.index ?? -1) ? review.inkBox(view) : null];
    return boxes.reduce((all, box) => (all && box ? around(all, box) : all ?? box), null);
  },
  draw: (/** @type {CanvasRenderingContext2D} */ context) => {
    if (review.framed(image?.index ?? -1)) review.draw(context, view);
    if (region) drawRegion(context, view, region);
    tools.draw(context);
  },
};

/** The box around two. @param {Box} a @param {Box} b @returns {Box} */
function around(a, b) {
  return [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[2], b[2]), Math.max(a[3], b[3])];
}

scene.pictured = (/** @type {boolean} */ seen) => {
  if ($("reading").hidden === seen) return;
  $("reading").hidden = seen;
  $("reading").textContent = seen ? "" : `Reading ${image?.name} …`;
};

// Words

/** Say something that is heard, too. @param {string} text */
function say(text) {
  $("status").textContent = text;
}

/** @param {number} id */
const className = (id) => (id === UNKNOWN ? "unknown" : project.classes[id]?.name ?? `class ${id}`);

/**
 * Show what went wrong, with what to do about it.
 * @param {string} message @param {string} [fix] @param {{kind?: "waiting" | "bad", buttons?: [string, () => void][]}} [how]
 */
function notice(message, fix = "", { kind = "bad", buttons = [["Close", () => {}]] } = {}) {
  const now = `${kind}/${message}/${fix}/${buttons.map(([name]) => name)}`;
  if (shown === now) return; // it is not read out again
  shown = now;
  $("trouble").dataset.kind = kind;
  $("trouble").hidden = false;
  $("trouble").replaceChildren(
    element("p", {}, element("b", { textContent: message[0].toUpperCase() + message.slice(1) }), fix && `${fix[0].toUpperCase()}${fix.slice(1)}.`),
    ...buttons.map(([name, does]) => element("button", { type: "button", textContent: name, onclick: () => {
      closeNotice();
      does();
    } })));
}

function closeNotice() {
  shown = "";
  $("trouble").hidden = true;
}

/** @param {unknown} error */
function complain(error) {
  if (error instanceof DOMException && error.name === "AbortError") return;
  if (error instanceof ServerError && error.status === 0) return lost();
  const known = error instanceof ServerError ? error : new ServerError(error instanceof Error ? error.message : `${error}`, { status: 1, fix: "reload the page; what was painted is kept" });
  if (error && !(error instanceof ServerError)) console.error(error);
  notice(known.message, known.fix);
}

/** Do something that asks the server; what goes wrong is shown. @param {() => Promise<void>} work */
async function attempt(work) {
  try {
    await work();
  } catch (error) {
    complain(error);
  }
}

/** The server does not answer: say what is kept. */
function lost() {
  const trouble = outbox?.trouble;
  const count = outbox?.waiting.length ?? 0;
  const kept = count ? `${many(count, "change")} kept here, and sent when it answers` : "go on painting: it is kept here, and sent when it answers";
  if (trouble?.locked) notice(trouble.message, `${trouble.fix}; ${kept}`, { kind: "waiting", buttons: [] });
  else if (trouble && trouble.status > 0) notice(trouble.message, [trouble.fix, kept].filter(Boolean).join("; "), { kind: "waiting", buttons: [] });
  else notice("the server does not answer", `start \`unetres annotate\` again; ${kept}`, { kind: "waiting", buttons: [] });
}

/** How much is not yet on the disk of the server. */
function showSaved() {
  const waiting = outbox.waiting.length;
  const refused = outbox.refused.length;
  const state = outbox.trouble ? "trouble" : refused ? "refused" : waiting ? "waiting" : "saved";
  $("saved").dataset.state = state;
  $("saved").textContent = waiting ? `${many(waiting, "change")} waiting` : refused ? `${many(refused, "change")} refused` : "Everything is saved";
  if (outbox.trouble) lost();
  else if (refused) {
    const [{ action }] = outbox.refused;
    notice(`${many(refused, "change")} refused: ${action.refused}`, action.fix, {
      buttons: [["Try again", () => outbox.retry()], ["Discard", () => outbox.discard()]],
    });
  } else if ($("trouble").dataset.kind === "waiting" && !$("trouble").hidden) {
    closeNotice();
    say("The server answers again.");
  }
  const busy = image && outbox.of(image.index).length > 0;
  $("undo").disabled = !(image?.can_undo || busy);
  $("redo").disabled = !image?.can_redo;
}

// Actions

/** @param {import("./outbox.js").Action} action */
function commit(action) {
  labels.add(action);
  outbox.add(action);
  if (action.kind === "strokes" && action.object === "new" && action.tool === "brush") brush.object = `new:${action.id}`;
  if (action.kind !== "undo" && action.kind !== "redo" && image) image.can_redo = false;
  showObject();
  scene.draw("paint");
}

/** @param {"strokes" | "undo" | "redo" | "accept" | "complete"} kind @param {object} [more] */
function act(kind, more = {}) {
  if (!image) return;
  commit({ id: newId(), image: image.index, name: image.name, kind, ...more });
}

/** @param {import("./outbox.js").Action} action @param {import("./api.js").Changed} changed @param {number} base */
function answered(action, changed, base) {
  const row = project.images[action.image];
  take(row, changed);
  if (brush.object === `new:${action.id}`) brush.object = changed.object ?? "new";
  showObject();
  if (image?.index === action.image) {
    labels.settle(action, changed.revision);
    const local = action.kind === "strokes" && ["brush", "polygon", "lasso"].includes(action.tool ?? "");
    const boxes = changed.boxes ?? (changed.box ? [changed.box] : []);
    const known = local && changed.revision === base + 1; // nothing else has happened, and this is drawn already
    if (!known) labels.change(boxes, ["classes", "objects"]);
    else if (typeof action.object === "string") labels.change(boxes, ["objects"]); // it has its number now
    revisions.set(action.image, Math.max(changed.revision, revisions.get(action.image) ?? 0));
    scene.draw("tiles");
  } else revisions.set(action.image, changed.revision);
  for (const event of heard.splice(0)) hear(event);
  showImage();
}

/** @param {ImageRow} row @param {any} about */
function take(row, about) {
  for (const name of /** @type {const} */ (["complete", "can_undo", "can_redo", "seen", "painted", "revision"])) {
    if (about[name] !== undefined) /** @type {any} */ (row)[name] = about[name];
  }
}

/** @param {import("./outbox.js").Action} action @param {ServerError} error @param {boolean} kept */
function refused(action, error, kept) {
  if (image?.index === action.image) {
    labels.settle(action, null);
    labels.change([[0, 0, image.width, image.height]], ["classes", "objects"]);
    scene.draw("tiles");
  }
  for (const event of heard.splice(0)) hear(event);
  if (!kept) notice(error.message, error.fix);
  if (region) refreshSoon();
}

// What others do

/** @param {any} event */
function hear(event) {
  if (event.image !== undefined && outbox.of(event.image).length) {
    heard.push(event);
    return;
  }
  if (event.missed) void reload();
  if (event.ending) say("The server is being ended. What you paint from now on is kept here.");
  if (event.note) notice(event.note, "");
  if (event.unwritten !== undefined) {
    if (event.unwritten) notice(`masks cannot be written: ${event.unwritten}`, "all strokes are in the journal; make room, and they are written");
    else say("The masks are written again.");
  }
  if (event.forest !== undefined && event.forest === image?.index) {
    if (event.box) labels.change([event.box], ["forest"]);
    if (look.guess === "forest") sayGuess(event.waits);
    scene.draw("tiles");
  }
  if (event.network !== undefined) {
    const here = event.network === null || event.network === image?.index;
    if (here && event.box) { // a part of a large picture
      labels.change([event.box], ["network", "confidence"]);
      scene.draw("tiles");
    } else if (here && event.box === undefined) newAnswers();
    if (event.network === null) say("The network has learned more: what it suggests is new.");
    if (!event.box) orderSoon();
  }
  if (event.learner) {
    project.learner = event.learner;
    showLearner(project.learner);
  }
  if (event.review) review.hear(event.review);
  if (event.image === undefined) return;
  const row = project.images[event.image];
  take(row, event);
  if (event.revision > (revisions.get(event.image) ?? 0)) {
    revisions.set(event.image, event.revision);
    if (event.image === image?.index) {
      labels.change(event.boxes ?? [], ["classes", "objects"]);
      scene.draw("tiles");
    }
  }
  if (event.image === image?.index) showImage();
  else markSoon();
}

/** The network has another file: what it suggests is asked for anew. */
function newAnswers() {
  if (!image) return;
  labels.change([[0, 0, image.width, image.height]], ["network", "confidence"]);
  if (look.guess === "network") sayGuess("");
  scene.draw("tiles");
}

/** Read the project anew: after a time without the server, or without hearing it. */
async function reload() {
  await attempt(async () => {
    const fresh = await api.project();
    const current = image;
    project = fresh;
    showLearner(project.learner);
    if (current) {
      image = project.images.find(({ name }) => name === current.name) ?? null;
      scene.image = labels.image = image;
      if (image) {
        labels.change([[0, 0, image.width, image.height]], ["classes", "objects", "network", "confidence", "forest"]);
        revisions.set(image.index, image.revision);
      }
    }
    await review.load();
    pictures.loader.again();
    labels.loader.again();
    looked();
    showImage();
    markSoon();
  });
  outbox.hurry();
}

let connected = true;

/** @param {boolean} open */
function connection(open) {
  if (open && !connected) {
    void reload();
    if ($("trouble").dataset.kind === "waiting" && !outbox.trouble) {
      closeNotice();
      say("The server answers again.");
    }
  }
  if (!open && connected) lost();
  connected = open;
}

// Images

/** @param {number} index */
function openImage(index) {
  const row = project.images[index];
  if (!row || row === image) return;
  if (tools.busy || labels.active) tools.up();
  tools.cancel();
  image = row;
  const asked = new URLSearchParams(location.hash.slice(1)).get("image");
  if (asked !== `${index + 1}` && asked !== row.name) history.replaceState(null, "", `#image=${index + 1}`);
  revisions.set(index, Math.max(row.revision, revisions.get(index) ?? 0));
  Object.assign(tools, { image: index, name: row.name });
  labels.open(row, outbox.of(index));
  newObject();
  region = null;
  regions = [];
  scene.image = row;
  view.open(row.width, row.height);
  showChannels();
  showImage();
  showObject();
  markImage(index);
  looked();
  orderSoon();
  $("stage").setAttribute("aria-label", `Picture ${row.name}, ${row.width} by ${row.height} pixels`);
  say(`${row.name}, image ${index + 1} of ${project.images.length}${row.complete ? ", complete" : ""}`);
  if (row.changed) notice(row.changed, "put the earlier file back, or open the project again; until then nothing is painted on it");
}

/** @param {number} by */
function step(by) {
  if (!image) return;
  const rows = [...$("images").querySelectorAll("button")].map((button) => Number(button.dataset.index));
  const all = rows.length ? rows : project.images.map(({ index }) => index);
  openImage(all[(all.indexOf(image.index) + by + all.length) % all.length]);
}

function suggested() {
  const next = order.find(({ index }) => index !== image?.index && !project.images[index].complete);
  if (!next) return step(1);
  openImage(next.index);
  if (next.box) {
    view.show(next.box);
    looked();
  }
  say(`${project.images[next.index].name}: ${next.why}`);
}

/** @param {import("./review.js").Place} place */
function showPlace({ index, box }) {
  if (index === null) return;
  openImage(index);
  if (box) view.show(box);
  else view.fit();
  looked();
}

/** What is under the frame of a place is not known: it counts in no loss and no score. */
function eraseFramed() {
  const box = review.at?.box;
  if (!box || !image || !review.framed(image.index)) return;
  const [x0, y0, x1, y1] = box;
  const points = /** @type {[number, number][]} */ ([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]);
  act("strokes", { tool: "polygon", points, class: UNKNOWN, object: 0 });
  say("What is in the frame is not known now.");
}

function showImage() {
  if (!image) return;
  $("name").textContent = image.name;
  const parts = [`${image.index + 1} of ${project.images.length}`, `${image.width} × ${image.height}`];
  if (image.dtype !== "uint8") parts.push(image.dtype === "uint16" ? "16 bits" : image.dtype);
  $("facts").textContent = parts.join(" · ");
  $("complete").setAttribute("aria-pressed", `${image.complete}`);
  $("complete").textContent = image.complete ? "✓ Complete" : "Complete";
  document.title = `${image.name} – ${project.name}`;
  showSaved();
  markSoon();
}

let marking = 0;
let listed = "";

/** Bring the list up to date, seldom. */
function markSoon() {
  marking ||= setTimeout(() => {
    marking = 0;
    const now = JSON.stringify([project.images.map(({ complete, painted, changed }) => [complete, painted, changed]), $("ordered").checked && order]);
    if (now === listed) return;
    listed = now;
    listImages(project.images, $("ordered").checked ? order : [], image?.index ?? -1);
  }, 300);
}

let ordering = 0;

/** Ask which images teach most, when what it depends on has changed. */
function orderSoon() {
  clearTimeout(ordering);
  ordering = setTimeout(async () => {
    try {
      order = await api.next();
    } catch {
      return; // this server knows no order, or does not answer: the list stays as it is
    }
    if (order.some(({ again }) => again)) orderSoon();
    markSoon();
  }, 400);
}

// View

let wait = 0;

/** Zoom or place have changed. */
function looked() {
  scene.draw();
  clearTimeout(wait);
  wait = setTimeout(() => {
    askForest();
    settleRegions();
  }, 150);
  tellWhere();
}

let asking = 0;

/** Ask for an answer to what is painted, for the part in sight. */
function askForest() {
  if (look.guess !== "forest" || !image) return;
  clearTimeout(asking);
  const { index } = image;
  asking = setTimeout(() => attempt(async () => {
    const { waits } = await api.forest(index, view.box, view.level);
    sayGuess(waits);
  }), 30);
}

const GUESSES = {
  "": "“At once” answers every stroke on what is in sight. “Network” is the int8 file that learns beside you.",
  forest: "Answers every stroke on what is in sight.",
  network: "What the int8 file says that learns beside you.",
};

/** Say why nothing is suggested, or what is. @param {string} [why] */
function sayGuess(why) {
  $("guessSays").textContent = why ? `${why[0].toUpperCase()}${why.slice(1).replace(/\.+$/, "")}.` : GUESSES[look.guess];
}

let telling = 0;

/** Tell where the pointer is; while one paints, when that ends: what changes far from the brush makes all between be composed anew. */
function tellWhere() {
  telling ||= setTimeout(() => {
    telling = 0;
    if (labels.active) tellWhere();
    else showWhere(tools.at);
  }, 50);
}

/** @param {import("./raster.js").Point | null} point */
function showWhere(point) {
  const zoom = `${Math.round(100 * view.scale / devicePixelRatio)} %`;
  if (!point || !image || point[0] < 0 || point[1] < 0 || point[0] >= image.width || point[1] >= image.height) {
    $("where").textContent = zoom;
    return;
  }
  const id = labels.at("classes", view.level, ...point);
  const object = look.byObject ? labels.at("objects", view.level, ...point) : 0;
  const what = id === null ? "" : `${className(id)}${object ? ` ${object}` : ""} · `;
  $("where").textContent = `${what}${Math.floor(point[0])}, ${Math.floor(point[1])} · ${zoom}`;
}

/** Choice of channels and contrast, where there is one. */
function showChannels() {
  const row = /** @type {ImageRow} */ (image);
  const choice = row.channels > 3;
  const plain = row.dtype === "uint8";
  $("channels").hidden = !choice;
  $("contrast").hidden = plain && !choice;
  if (choice) {
    $("channels").replaceChildren(...["Red", "Green", "Blue"].map((name, at) => {
      const select = element("select", { id: `channel${at}`, "aria-label": `Channel shown as ${name.toLowerCase()}` },
        at > 0 && element("option", { value: "", textContent: "–" }),
        ...Array.from({ length: row.channels }, (_, channel) => element("option", { value: `${channel}`, textContent: `${channel + 1}` })));
      select.value = `${at}`;
      select.onchange = showQuery;
      return element("label", {}, name, " ", select);
    }));
  }
  $("low").value = $("high").value = "";
  showQuery();
  if (!plain) void attempt(async () => {
    const { limits } = await api.levels(row.index);
    if (image !== row) return;
    const [low, high] = limits[0];
    Object.assign($("low"), { placeholder: `${Math.round(low)}` });
    Object.assign($("high"), { placeholder: `${Math.round(high)}` });
  });
}

function showQuery() {
  const row = /** @type {ImageRow} */ (image);
  const query = new URLSearchParams();
  if (row.channels > 3) { // one channel is shown in grey, two as red and green
    const green = $("channel1").value !== "";
    if (!green) $("channel2").value = "";
    $("channel2").disabled = !green;
    query.set("show", [0, 1, 2].map((at) => $(`channel${at}`).value).filter((value) => value !== "").join(","));
  }
  const [low, high] = [$("low"), $("high")].map(({ value, placeholder }) => (value === "" ? placeholder : value));
  if (($("low").value !== "" || $("high").value !== "") && Number(low) < Number(high)) {
    query.set("low", low);
    query.set("high", high);
  }
  look.show = query.size ? `?${query}` : "";
  scene.draw();
}

// Suggestions

function settleRegions() {
  const layer = look.guess;
  const able = layer !== "" && image !== null;
  for (const id of ["regionBack", "regionOn", "acceptAll"]) $(id).disabled = !able;
  $("confidenceRow").hidden = layer !== "network";
  if (!able && region) chooseRegion(null);
}

/** @param {Region | null} next */
function chooseRegion(next) {
  region = next;
  $("bar").hidden = !region;
  if (region) {
    if (!view.shows(region.box)) {
      view.show(region.box);
      looked();
    }
    const text = describe(region);
    $("barText").textContent = text;
    say(`Suggested: ${text}`);
  }
  scene.draw("over");
}

let refreshing = 0;

/** What is suggested may have changed under the region that is chosen: choose what is there now. */
function refreshSoon() {
  clearTimeout(refreshing);
  refreshing = setTimeout(() => {
    const last = region;
    if (!last || !look.guess) return;
    regions = findRegions(labels, view, look.guess);
    const same = regions.find((each) => each.class === last.class && holds(each, ...last.point));
    if (same) {
      region = same;
      $("barText").textContent = describe(same);
      scene.draw("over");
    } else chooseRegion(regions.find((each) => each.box[1] >= last.box[1]) ?? regions[0] ?? null);
  }, 250);
}

/** @param {Region} chosen */
function describe(chosen) {
  const at = regions.indexOf(chosen);
  const sure = chosen.sure === null ? "" : `, ${Math.round(100 * chosen.sure)} % sure`;
  return `${className(chosen.class)}, ${figure(chosen.area)} px${sure}${at >= 0 ? `, ${at + 1} of ${regions.length} in sight` : ""}`;
}

/** @param {number} by */
function walk(by) {
  if (!look.guess) return say("Show a suggestion first: G or W.");
  const last = region;
  regions = findRegions(labels, view, look.guess);
  if (!regions.length) {
    chooseRegion(null);
    return say("Nothing is suggested in this part of the picture that is not painted.");
  }
  let at = last ? regions.findIndex((each) => each.point[0] === last.point[0] && each.point[1] === last.point[1]) : -1;
  if (at < 0 && last) at = regions.findIndex((each) => each.box[1] > last.box[1]) - (by > 0 ? 1 : 0);
  else if (at < 0) at = by > 0 ? -1 : 0;
  chooseRegion(regions[(at + by + regions.length) % regions.length]);
}

/** Accept the chosen region, as it is or as another class. @param {number} [id] */
function accept(id) {
  const chosen = region ?? underPointer();
  if (!chosen || !look.guess) return false;
  act("accept", { of: look.guess, point: chosen.point, within: chosen.box, predicted: chosen.class, unseen: false, objects: brush.objects, ...(id === undefined ? {} : { class: id }) });
  say(id === undefined ? `Accepted: ${className(chosen.class)}` : id === 0 ? "Rejected: it is background" : `It is ${className(id)}`);
  if (region) {
    const rest = regions.filter((each) => each !== chosen);
    const at = regions.indexOf(chosen);
    regions = rest;
    chooseRegion(rest[Math.min(at, rest.length - 1)] ?? null);
  }
  return true;
}

function underPointer() {
  if (!look.guess || !tools.at) return null;
  const [x, y] = tools.at;
  return findRegions(labels, view, look.guess).find((each) => holds(each, x, y)) ?? null;
}

function acceptAll() {
  if (!look.guess || !image) return say("Show a suggestion first: G or W.");
  const all = /** @type {Box} */ ([0, 0, image.width, image.height]);
  const parts = look.guess === "network" && image.width * image.height > MOST_PIXELS; // of which the network has seen some
  const box = parts ? view.box : all;
  const whole = parts || view.shows(all);
  act("accept", { of: look.guess, box, unseen: !whole, objects: brush.objects });
  chooseRegion(null);
  if (parts) say("Everything that is suggested in sight is accepted.");
  else say(whole ? "Everything that is suggested is accepted." : "Everything that is suggested is accepted, also what was not in sight.");
}

/** @param {"" | "forest" | "network"} guess */
function showGuess(guess) {
  look.guess = guess;
  for (const input of document.querySelectorAll("input[name=guess]")) /** @type {HTMLInputElement} */ (input).checked = /** @type {HTMLInputElement} */ (input).value === guess;
  chooseRegion(null);
  settleRegions();
  sayGuess();
  looked();
}

// Choices

/** @param {string} tool */
function chooseTool(tool) {
  if (tools.busy) tools.cancel();
  brush.tool = /** @type {import("./tools.js").Tool} */ (tool);
  mark($("tools"), (button) => button.dataset.tool === tool);
  if (tool === "split" || tool === "merge") {
    set("byObject", true);
    say(tool === "split" ? "Draw a line through an object." : "Click an object, then the one that belongs to it.");
  }
  hand.cursor();
  scene.draw("over");
}

/** @param {number} id */
function chooseClass(id) {
  if (id !== UNKNOWN && !project.classes[id]) return;
  brush.class = id;
  if (brush.tool === "eraser") chooseTool("brush");
  markClass(id);
  scene.draw("over");
  keep();
}

/** @param {number} id */
function digit(id) {
  if (region && id !== UNKNOWN && project.classes[id]) accept(id);
  else {
    chooseClass(id);
    if (project.classes[id] || id === UNKNOWN) say(className(id));
  }
}

const SIZES = { least: 1, most: 10_000 };
const FIRST_SIZE = 16; // CSS px on the screen, of a brush that nobody has chosen

/** @param {number} size px */
function resize(size) {
  brush.size = Math.min(Math.max(Math.round(size), SIZES.least), SIZES.most);
  $("size").value = 100 * Math.log(brush.size / SIZES.least) / Math.log(SIZES.most / SIZES.least);
  $("sizeValue").textContent = `${figure(brush.size)} px`;
  scene.draw("over");
  keep();
}

/** @param {"outlines" | "byObject" | "confidence"} name @param {boolean} value */
function set(name, value) {
  look[name] = $(name).checked = value;
  scene.draw();
  keep();
}

/** @param {number} percent */
function setOpacity(percent) {
  look.opacity = Math.min(Math.max(percent, 0), 100) / 100;
  $("opacity").value = 100 * look.opacity;
  $("opacityValue").textContent = `${Math.round(100 * look.opacity)} %`;
  scene.draw("paint");
  keep();
}

/** The next stroke is of an object that is not there yet. */
function newObject() {
  Object.assign(brush, { object: "new", picked: false });
  showObject();
}

function showObject() {
  $("objectRow").hidden = !brush.objects;
  $("objectNow").textContent = typeof brush.object === "number" ? `object ${brush.object}` : brush.object === "new" ? "a new object" : "the new object";
}

/** Remember the choices for the next visit. */
function keep() {
  const { tool, class: id, size, objects } = brush;
  const now = JSON.stringify({ brush: { tool, class: id, size, objects }, look: { outlines: look.outlines, byObject: look.byObject, opacity: look.opacity, confidence: look.confidence }, ordered: $("ordered").checked });
  try {
    localStorage.setItem("unetres-choices", now);
  } catch {
    // It is full of strokes that the server has not answered; they are worth more.
  }
}

function recall() {
  try {
    const kept = JSON.parse(localStorage.getItem("unetres-choices") ?? "{}");
    Object.assign(brush, kept.brush);
    Object.assign(look, kept.look);
    $("ordered").checked = kept.ordered ?? true;
  } catch {
    localStorage.removeItem("unetres-choices");
  }
  if (brush.class !== UNKNOWN && !project.classes[brush.class]) brush.class = Math.min(1, project.classes.length - 1);
}

// Keys

const MOVES = /** @type {Record<string, [number, number]>} */ ({ ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] });

const keys = keyTable({
  tool: chooseTool,
  resize: (/** @type {number} */ way) => resize(way > 0 ? Math.max(brush.size + 1, brush.size * 1.2) : Math.min(brush.size - 1, brush.size / 1.2)),
  cancel: () => {
    if (region && !tools.busy) chooseRegion(null);
    tools.cancel();
  },
  digit,
  another: () => {
    newObject();
    say("The next stroke is a new object.");
  },
  undo: () => act("undo"),
  redo: () => act("redo"),
  guess: (/** @type {"forest" | "network"} */ guess) => showGuess(look.guess === guess ? "" : guess),
  region: walk,
  enter: () => {
    if (tools.busy) tools.finish();
    else if (region) accept();
    else if (tools.aim) tools.dab();
    else if (!accept()) say("Nothing is chosen. Full stop chooses a suggested region; Shift with an arrow moves a crosshair.");
  },
  backspace: () => {
    if (tools.busy) tools.back();
    else accept(0);
  },
  acceptAll,
  image: step,
  suggested,
  complete: toggleComplete,
  place: (/** @type {1 | -1} */ by) => review.step(by),
  settle: () => attempt(() => review.settle()),
  eraseFramed,
  pan: (/** @type {string} */ key) => {
    const [x, y] = MOVES[key];
    view.pan(x * view.across / 8, y * view.down / 8);
    looked();
  },
  aim: (/** @type {string} */ key) => {
    const [x, y] = MOVES[key];
    const by = Math.max(0.25, 12 * devicePixelRatio / view.scale);
    const from = tools.at ?? [view.x, view.y];
    const near = (/** @type {number} */ value, /** @type {number} */ most) => Math.round(4 * Math.min(Math.max(value, 0.5), most - 0.5)) / 4;
    tools.at = [near(from[0] - x * by, view.width), near(from[1] - y * by, view.height)];
    tools.aim = true;
    showWhere(tools.at);
    scene.draw("over");
  },
  zoom: (/** @type {number} */ factor) => {
    view.zoom(factor);
    looked();
  },
  fit: () => {
    view.fit();
    looked();
  },
  natural: () => {
    view.zoom(devicePixelRatio / view.scale);
    looked();
  },
  toggle: (/** @type {"outlines" | "byObject"} */ name) => set(name, !look[name]),
  peek: (/** @type {boolean} */ on) => {
    look.paint = !on;
    scene.draw("paint");
  },
  opacity: (/** @type {number} */ by) => setOpacity(100 * look.opacity + by),
  help: () => $("help").showModal(),
});

function toggleComplete() {
  if (!image) return;
  act("complete", { complete: !image.complete });
  say(image.complete ? "What is not painted is unknown again." : project.background === null ? "Complete." : "Complete: what is not painted is background. Press C again if it is not.");
  orderSoon();
}

addEventListener("keydown", (event) => {
  const target = /** @type {HTMLElement} */ (event.target);
  if (event.key === "Enter" && target.closest("input[type=number]")) $("stage").focus({ preventScroll: true });
  if ($("help").open || target.closest("input[type=number], select")) return;
  if (target.closest("button") && /^(Enter| )$/.test(event.key)) return;
  if (target.closest("input[type=checkbox], input[type=radio]") && /^( |Arrow.*)$/.test(event.key)) return;
  if (target.closest("input[type=range]") && /^(Arrow.*|Home|End|Page.*)$/.test(event.key)) return;
  if (event.key === " ") {
    event.preventDefault();
    hand.hold(true);
    return;
  }
  if (!image) return;
  const key = keys.find((each) => each.fits(event));
  if (!key) return;
  event.preventDefault();
  key.does(event);
});
addEventListener("keyup", (event) => {
  if (event.key === " ") hand.hold(false);
  if (event.key.toLowerCase() === "q" && !look.paint) {
    look.paint = true;
    scene.draw("paint");
  }
});
addEventListener("blur", () => hand.hold(false));
addEventListener("pagehide", () => {
  if (labels.active) tools.up();
});

// Buttons

/** After a click the keys are the picture's again; after a key the focus stays. @param {MouseEvent} event */
const back = (event) => {
  if (event.detail > 0) $("stage").focus({ preventScroll: true });
};
for (const input of document.querySelectorAll("input:not([type=number])")) {
  input.addEventListener("click", (event) => back(/** @type {MouseEvent} */ (event)));
}
/** @param {string} id @param {() => void} does */
const click = (id, does) => $(id).addEventListener("click", (/** @type {MouseEvent} */ event) => {
  does();
  back(event);
});

click("previous", () => step(-1));
click("next", () => step(1));
click("suggested", suggested);
click("reviewBack", () => review.step(-1));
click("reviewOn", () => review.step(1));
click("reviewDone", () => attempt(async () => review.settle()));
click("reviewUnknown", eraseFramed);
click("complete", toggleComplete);
click("undo", () => act("undo"));
click("redo", () => act("redo"));
click("closer", () => {
  view.zoom(1.5);
  looked();
});
click("farther", () => {
  view.zoom(1 / 1.5);
  looked();
});
click("cycle", () => {
  const all = [...project.classes.map(({ id }) => id), UNKNOWN];
  chooseClass(all[(all.indexOf(brush.class) + 1) % all.length]);
  say(className(brush.class));
});
click("fit", () => {
  view.fit();
  looked();
});
click("newObject", newObject);
click("regionBack", () => walk(-1));
click("regionOn", () => walk(1));
click("acceptAll", acceptAll);
click("barYes", () => accept());
click("barNo", () => accept(0));
click("autoContrast", () => {
  $("low").value = $("high").value = "";
  showQuery();
});
click("showPanel", () => {
  const open = document.body.classList.toggle("panel");
  $("showPanel").setAttribute("aria-pressed", `${open}`);
});
click("learn", () => attempt(async () => {
  project.learner = await api.teach($("learn").dataset.do === "stop" ? "stop" : "start");
  showLearner(project.learner);
}));
click("export", () => attempt(async () => {
  if ($("trouble").dataset.kind === "bad" && !outbox.refused.length) closeNotice(); // of an earlier one
  $("exported").textContent = $("form").value === "tflite" ? "Writing and verifying, which takes minutes …" : "Writing …";
  try {
    const { path, note, page } = await api.export($("form").value);
    $("exported").textContent = [`Written to ${path}.`, note].filter(Boolean).join(" ");
    if ($("form").value === "tflite") $("runHere").hidden = !page;
  } catch (error) {
    $("exported").textContent = "";
    throw error;
  }
}));
$("showHelp").onclick = () => $("help").showModal();
$("closeHelp").onclick = () => $("help").close();
$("size").oninput = () => resize(SIZES.least * (SIZES.most / SIZES.least) ** ($("size").value / 100));
$("opacity").oninput = () => setOpacity(Number($("opacity").value));
$("low").onchange = $("high").onchange = showQuery;
for (const name of /** @type {const} */ (["outlines", "byObject", "confidence"])) $(name).onchange = () => set(name, $(name).checked);
$("objects").onchange = () => {
  brush.objects = $("objects").checked;
  if (brush.objects) set("byObject", true);
  newObject();
  keep();
};
$("ordered").onchange = () => {
  markSoon();
  keep();
};
for (const input of document.querySelectorAll("input[name=guess]")) {
  input.addEventListener("change", () => showGuess(/** @type {any} */ (input).value));
}
radios($("tools"), (button) => chooseTool(button.dataset.tool ?? "brush"));
radios($("classes"), (button) => chooseClass(Number(button.dataset.class)));
for (const id of ["tools", "classes"]) $(id).addEventListener("click", back);
$("images").addEventListener("click", (/** @type {any} */ event) => {
  const button = event.target.closest("button");
  if (button) openImage(Number(button.dataset.index));
});
new ResizeObserver(() => scene.resize()).observe($("stage"));

// Begin

/** Open what an address names: #image=3, counted from 1, or its name; &box=x0,y0,x1,y1 is brought into sight. @param {string} hash */
function openPlace(hash) {
  const asked = new URLSearchParams(hash.slice(1));
  const named = asked.get("image") ?? "";
  const at = project.images.findIndex(({ name, index }) => name === named || `${index + 1}` === named);
  openImage(at < 0 ? image?.index ?? 0 : at);
  const box = (asked.get("box") ?? "").split(",").map(Number);
  if (box.length !== 4 || !box.every(Number.isFinite)) return;
  view.show(/** @type {Box} */ (box));
  looked();
}

async function begin() {
  try {
    project = await api.project();
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    $("start").hidden = false;
    $("start").textContent = `${error.message}\n${error.fix}`;
    if (error.passing) setTimeout(begin, 1000);
    return;
  }
  $("start").hidden = true;
  $("project").textContent = project.name;
  outbox = new Outbox(api, new Kept(project.place ?? project.name), {
    base: (index) => revisions.get(index) ?? 0,
    answered,
    refused,
    changed: showSaved,
  });
  recall();
  scene.classes = project.classes;
  listClasses(project.classes);
  showKeys($("keys"), keys);
  chooseTool(brush.tool);
  chooseClass(brush.class);
  if (brush.size) resize(brush.size);
  setOpacity(100 * look.opacity);
  for (const name of /** @type {const} */ (["outlines", "byObject", "confidence"])) set(name, look[name]);
  $("objects").checked = brush.objects;
  showLearner(project.learner);
  await outbox.restore((action) => {
    const row = project.images[action.image];
    return (row?.name === action.name ? row : project.images.find(({ name }) => name === action.name))?.index ?? null;
  });
  if (!project.images.length) {
    $("start").hidden = false;
    $("start").textContent = "This project has no images.";
    return;
  }
  $("runHere").hidden = !project.runs;
  await attempt(() => review.load());
  openPlace(location.hash);
  if (!brush.size) resize(FIRST_SIZE * devicePixelRatio / view.scale);
  addEventListener("hashchange", () => openPlace(location.hash));
  if (project.unwritten) notice(`masks cannot be written: ${project.unwritten}`, "all strokes are in the journal");
  listenTogether(hear, connection);
  $("stage").focus({ preventScroll: true });
  document.documentElement.dataset.ready = "yes";
}

void begin();
