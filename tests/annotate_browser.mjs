// Paint in a real browser, as people do: node annotate_browser.mjs JOB.json
// JOB: {playwright, axe, chromium, serve: [program, ...words], url, out, strokes}. It starts and kills the server itself.
// What was done, and what was seen, is written to OUT/report.json; OUT has the screenshots.

import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const job = JSON.parse(readFileSync(process.argv[2]));
const { chromium } = await import(pathToFileURL(job.playwright));
const report = { console: [], told: [] };

let server = null;
const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });
async function start() {
  server = spawn(job.serve[0], job.serve.slice(1), { stdio: "inherit" });
  for (let tries = 0; tries < 400; tries++) {
    if (await fetch(job.url).then((answer) => answer.ok, () => false)) return;
    await pause(50);
  }
  throw new Error("the server does not answer");
}
async function kill() {
  const ended = new Promise((done) => server.once("exit", done));
  server.kill("SIGKILL");
  await ended;
}

await start();
const browser = await chromium.launch({ executablePath: job.chromium, args: ["--no-sandbox"] });
const context = await browser.newContext({ viewport: { width: 1280, height: 820 } });
context.setDefaultTimeout(30_000);

const STREAMS = /\/(api\/events|page\/events\.js)/; // which do not end
const asked = new Map();
/** Nothing was asked for half a second, but for streams: `networkidle` never comes while a shared worker has one. */
async function quiet(tab) {
  for (let since = Date.now(); Date.now() - since < 500; await pause(50)) if (asked.get(tab).size) since = Date.now();
}

/** A tab, at one pixel to a pixel, in which points of the picture are known. */
async function open(hash = "") {
  const page = await context.newPage();
  page.on("pageerror", (error) => report.console.push(error.message));
  const running = new Set();
  asked.set(page, running);
  page.on("request", (request) => { if (!STREAMS.test(request.url())) running.add(request); });
  for (const end of ["requestfinished", "requestfailed"]) page.on(end, (request) => running.delete(request));
  page.on("console", (line) => { if (/Content Security Policy/.test(line.text())) report.console.push(line.text()); });
  await page.addInitScript(() => {
    window.whole = (id) => { // the cells of a surface, on one canvas
      const { clientWidth, clientHeight, children } = document.getElementById(id);
      const made = new OffscreenCanvas(clientWidth, clientHeight); // of a screen with one pixel to a pixel
      for (const cell of children) if (!cell.hidden) made.getContext("2d").drawImage(cell, cell.offsetLeft, cell.offsetTop);
      return made;
    };
  });
  await page.goto(job.url + hash);
  await page.waitForSelector("html[data-ready]");
  await page.keyboard.press("End");
  return page;
}

let page = await open();
await page.uncheck("#ordered");
await page.waitForTimeout(500);
await page.locator("#stage").focus();
const press = async (...names) => { for (const name of names) await page.keyboard.press(name); };

/** The place of the screen where a point of the picture is, while the middle of both is the same. */
async function place([x, y], tab = page) {
  const box = await tab.locator("#stage").boundingBox();
  const [width, height] = job.sizes[Number(/image=(\d+)/.exec(tab.url())?.[1] ?? 1) - 1];
  return [box.x + box.width / 2 + x - width / 2, box.y + box.height / 2 + y - height / 2];
}
async function drag(points, { button = "left", tab = page, steps = 3 } = {}) {
  await tab.mouse.move(...await place(points[0], tab));
  await tab.mouse.down({ button });
  for (const point of points.slice(1)) await tab.mouse.move(...await place(point, tab), { steps });
  await tab.mouse.up({ button });
}
const click = async (point, tab = page) => tab.mouse.click(...await place(point, tab));
const saved = (tab = page) => tab.waitForFunction(() => document.getElementById("saved").dataset.state === "saved");
const settled = async (tab = page) => {
  await saved(tab);
  await quiet(tab);
  await tab.waitForTimeout(150);
};
/** What the canvas of the paint shows at one pixel to a pixel: the colour of every pixel of the picture. */
const seen = (tab = page) => tab.evaluate(async ([width, height]) => {
  const canvas = window.whole("paint");
  const [left, top] = [Math.round(canvas.width / 2 - width / 2), Math.round(canvas.height / 2 - height / 2)];
  const { data } = canvas.getContext("2d").getImageData(left, top, width, height);
  const colors = [...document.querySelectorAll("#classes .chip")].map(({ style }) => style.backgroundColor.match(/\d+/g)?.map(Number));
  const known = new Map(colors.flatMap((color, id) => (color ? [[color.join(), id]] : [])));
  let text = "";
  for (let at = 0; at < data.length; at += 4) {
    const id = data[at + 3] === 0 ? 255 : known.get(`${data[at]},${data[at + 1]},${data[at + 2]}`) ?? 254;
    text += String.fromCharCode(id);
  }
  return btoa(text);
}, job.sizes[Number(/image=(\d+)/.exec(tab.url())?.[1] ?? 1) - 1]);
const mask = async (index, of = "classes") => page.evaluate(async ([image, layer]) => {
  const answer = await fetch(`/api/images/${image}/mask/0/0/0.png?of=${layer}`);
  const bytes = new Uint8Array(await answer.arrayBuffer());
  return btoa(String.fromCharCode(...bytes));
}, [index, of]);
const shot = (name, tab = page) => tab.screenshot({ path: `${job.out}/${name}.png` });
const status = () => page.textContent("#status");

// Every tool, on the first image
await press("b", "1");
await drag([[40, 50], [120, 60], [160, 110]]);
await press("[", "[");
await drag([[60, 200], [61, 200]]);
await press("]", "]", "]", "0");
await drag([[200, 30], [280, 200], [200, 280]], { steps: 9 });
await press("e");
await drag([[100, 40], [100, 90]]);
await press("b");
await drag([[220, 60], [240, 140]], { button: "right" });
await press("2", "p");
for (const corner of [[300, 40], [360, 60], [350, 120], [310, 90]]) await click(corner);
await press("Enter");
for (const corner of [[30, 120], [70, 130], [50, 160]]) await click(corner);
await click([10, 10]);
await press("Backspace"); // takes the wrong corner back
await click([30, 120]); // and the first one again closes it
await press("l", "1");
await drag([[300, 200], [370, 210], [340, 280], [290, 250]], { steps: 7 });
await press("f", "0");
await saved();
await click([335, 230]);
await click([5, 270]); // what is not painted, around all of it
await press("i");
await saved();
await page.waitForTimeout(200);
await click([330, 70]);
report.picked = await status();
report.tool = await page.getAttribute("#tools [aria-checked=true]", "data-tool");
await settled();
report.tools = { seen: await seen(), mask: await mask(0) };
await shot("tools");

// Undo and redo
await press("PageDown", "End", "b", "1");
report.second = page.url();
const begun = [await mask(1)];
for (let stroke = 0; stroke < job.strokes; stroke++) {
  if (stroke % 50 === 0) await press(`${stroke / 50 % 3}`);
  const [x, y] = [20 + stroke * 37 % 340, 20 + stroke * 61 % 240];
  await drag([[x, y], [x + 14, y + 9]], { steps: 1 });
}
await settled();
const all = await mask(1);
report.many = { painted: Number(/\d+/.exec(await page.textContent("#images [aria-current=true] small")) ?? 0), seen: await seen(), mask: all };
for (let stroke = 0; stroke < job.strokes; stroke++) await press("Control+z");
await settled();
report.undone = [begun[0] === await mask(1), await page.isDisabled("#undo"), await seen()];
for (let stroke = 0; stroke < job.strokes; stroke++) await press("Control+Shift+Z");
await settled();
report.redone = [all === await mask(1), await page.isDisabled("#redo"), await seen() === report.many.seen];

// Objects: each has a number, one is split, two are merged
await press("PageDown", "End", "1");
await page.check("#objects");
await drag([[50, 50], [120, 50]]);
await drag([[120, 50], [120, 90]]); // the same object
await press("a");
await drag([[50, 150], [120, 150]]);
await press("l"); // an outline is an object of its own
await drag([[200, 50], [260, 60], [230, 120]], { steps: 5 });
await drag([[200, 150], [260, 160], [230, 220]], { steps: 5 });
await settled();
await press("s");
await settled();
await drag([[85, 20], [85, 80]]);
await settled();
await press("m");
await click([225, 75]);
await click([225, 175]);
await settled();
report.objects = { mask: await mask(2, "objects") };
await shot("objects");
await page.uncheck("#objects");
await press("v", "b");

// The server dies while one paints; what was painted meanwhile is seen, and is there afterwards
await press("PageDown", "End", "1");
await drag([[30, 30], [90, 40]]);
await saved();
await kill();
await drag([[30, 80], [200, 100]]);
await press("2", "l");
await drag([[200, 150], [300, 160], [260, 250]], { steps: 5 });
await press("b", "0");
await drag([[210, 160], [280, 230]]);
await press("Control+z", "3", "x");
await drag([[100, 70], [110, 120]]);
await press("1");
await page.waitForSelector("#trouble:not([hidden])");
report.dead = { seen: await seen(), saved: await page.textContent("#saved"), notice: await page.textContent("#trouble p"), kept: await page.evaluate(() => localStorage.length) };
await shot("dead");
await start();
await settled();
await page.waitForSelector("#trouble", { state: "hidden" });
report.alive = { seen: await seen(), mask: await mask(3), kept: await page.evaluate(() => Object.keys(localStorage).filter((key) => key.startsWith("unetres/")).length) };

// A reload in the middle, before anything was sent
await context.route("**/strokes", (route) => route.abort());
await drag([[30, 200], [120, 220]]);
await page.mouse.move(...await place([150, 250]));
await page.mouse.down();
await page.mouse.move(...await place([180, 260]), { steps: 4 }); // and the pen is still down
report.before = await seen();
await page.reload();
await page.waitForSelector("html[data-ready]");
await press("End");
report.waiting = await page.textContent("#saved");
await context.unroute("**/strokes");
await settled();
report.reloaded = { seen: await seen(), mask: await mask(3) };
// The tab is closed for good with a stroke that was not sent, for which localStorage has no room; another one finds it
await page.evaluate(() => {
  for (let size = 1 << 22; size; size >>= 1) {
    try { localStorage.setItem(`filler-${size}`, "x".repeat(size)); } catch { /* that much does not fit */ }
  }
});
await context.route("**/strokes", (route) => route.abort());
await drag([[250, 30], [300, 60]]);
await page.waitForTimeout(300);
report.spilled = await page.evaluate(() => Object.keys(localStorage).filter((key) => key.startsWith("unetres/")).length);
await page.close();
await context.unroute("**/strokes");
page = await open("#image=4");
await page.evaluate(() => { for (const key of Object.keys(localStorage)) if (key.startsWith("filler")) localStorage.removeItem(key); });
await settled();
report.adopted = { seen: await seen(), mask: await mask(3) };

// Two tabs, at the same time
const other = await open("#image=4");
await other.keyboard.press("2");
await page.keyboard.press("1");
for (let round = 0; round < 6; round++) {
  await Promise.all([
    drag([[20 + 50 * round, 100], [60 + 50 * round, 180]], { tab: page }),
    drag([[60 + 50 * round, 100], [20 + 50 * round, 180]], { tab: other }),
  ]);
}
await other.keyboard.press("Control+z");
await Promise.all([settled(page), settled(other)]);
for (let tries = 0; tries < 50 && await seen(page) !== await seen(other); tries++) await page.waitForTimeout(200);
report.tabs = { seen: await seen(page), other: await seen(other), mask: await mask(3) };
await other.close();

// By keys alone: suggestions accepted, rejected, given a class; the next image
await press("PageDown", "End");
await saved();
report.keys = { image: page.url(), says: [] };
await press("w");
await quiet(page);
await page.waitForTimeout(300);
await shot("suggested");
for (const names of [["."], ["Enter"], ["Backspace"], ["2"], ["."], ["Escape"]]) {
  await press(...names);
  await settled();
  report.keys.says.push(await status());
}
await press("Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowDown", "1", "Enter");
await settled();
report.keys.mask = await mask(4);
await press("Home", ".");
await settled();
await page.screenshot({ path: `${job.out}/guide.jpg`, quality: 82 });
await press("Escape", "End", "c");
await settled();
report.keys.complete = await page.getAttribute("#complete", "aria-pressed");
await shot("complete");
await press("n");
report.keys.suggested = [page.url(), await status()];
await press("Shift+?");
report.keys.help = await page.locator("#help kbd").count();
await shot("help");
await press("Escape", "w");
// Every control has a name, and Tab reaches it
report.reached = [];
for (let step = 0; step < 60; step++) {
  await press("Tab");
  report.reached.push(await page.evaluate(() => document.activeElement.id || document.activeElement.dataset.class || document.activeElement.dataset.index || document.activeElement.tagName));
}
await page.locator("#stage").focus();

// A wheel, the space bar, fingers and a pen
await press("Home");
const zoom = async () => Number(/([\d.]+) %/.exec(await page.textContent("#where"))[1]);
report.zoom = [await zoom()];
const [cx, cy] = await place([200, 150]);
await page.mouse.move(cx, cy);
await page.mouse.wheel(0, -500);
await page.waitForTimeout(100);
report.zoom.push(await zoom());
const where = async () => {
  await page.waitForTimeout(150);
  return found(await page.textContent("#where"));
};
const found = (text) => (/([\d,]+), ([\d,]+) ·/.exec(text) ?? []).slice(1).map(Number);
await page.mouse.move(cx + 1, cy);
report.moved = [await where()];
await page.keyboard.down(" ");
await page.mouse.down();
await page.mouse.move(cx + 101, cy, { steps: 4 });
await page.mouse.up();
await page.keyboard.up(" ");
await page.mouse.move(cx + 101, cy + 1);
report.moved.push(await where());
await press("End", "PageUp", "PageDown", "End");
const strokes = async () => (await (await fetch(`${new URL(job.url).origin}/api/project`, { headers: { "X-Unetres-Token": job.token } })).json()).images.map(({ painted }) => painted);
const session = await context.newCDPSession(page);
const touch = (type, ...points) => session.send("Input.dispatchTouchEvent", { type, touchPoints: points.map(([x, y], id) => ({ x, y, id })) });
const counts = [await strokes()];
await touch("touchStart", [cx, cy]);
await touch("touchMove", [cx + 30, cy + 10]);
await touch("touchEnd");
await settled();
counts.push(await strokes());
report.zoom.push(await zoom());
await touch("touchStart", [cx, cy], [cx + 100, cy]);
for (let step = 1; step <= 5; step++) await touch("touchMove", [cx - 10 * step, cy], [cx + 100 + 10 * step, cy]);
await touch("touchEnd");
await page.waitForTimeout(200);
report.zoom.push(await zoom());
await settled();
counts.push(await strokes());
const pen = (type, x, y, buttons = 1) => session.send("Input.dispatchMouseEvent", { type, x, y, button: "left", buttons, pointerType: "pen", clickCount: 1 });
await pen("mousePressed", cx, cy + 40);
await pen("mouseMoved", cx + 50, cy + 60);
await pen("mouseReleased", cx + 50, cy + 60, 0);
await settled();
counts.push(await strokes());
await touch("touchStart", [cx, cy]); // a hand that rests beside the pen
await touch("touchMove", [cx + 30, cy + 10]);
await touch("touchEnd");
await settled();
counts.push(await strokes());
report.touch = counts.map((each) => each.reduce((sum, count) => sum + count, 0));

// A larger picture, of several levels: what is drawn at once from afar is what the server then shows
await page.goto(`${job.url}#image=${job.sizes.length}`);
await page.reload();
await page.waitForSelector("html[data-ready]");
await settled();
await press("b", "1");
await page.evaluate(() => { document.getElementById("size").value = 60; document.getElementById("size").dispatchEvent(new Event("input")); });
const stage = await page.locator("#stage").boundingBox();
const far = ([x, y]) => [stage.x + x * stage.width, stage.y + y * stage.height];
const colors = () => page.evaluate(async () => {
  const canvas = window.whole("paint");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const digest = await crypto.subtle.digest("SHA-256", data);
  return [btoa(String.fromCharCode(...new Uint8Array(digest))), data.filter((value, at) => at % 4 === 3 && value).length];
});
await kill();
await page.mouse.move(...far([0.3, 0.3]));
await page.mouse.down();
for (const point of [[0.5, 0.7], [0.7, 0.2]]) await page.mouse.move(...far(point), { steps: 12 });
await page.mouse.up();
await press("2", "l");
await page.mouse.move(...far([0.4, 0.2]));
await page.mouse.down();
for (const point of [[0.6, 0.5], [0.35, 0.8], [0.6, 0.75]]) await page.mouse.move(...far(point), { steps: 9 });
await page.mouse.up();
await page.waitForTimeout(200);
report.far = { local: await colors() };
await start();
await settled();
await page.reload();
await page.waitForSelector("html[data-ready]");
await settled();
report.far.server = await colors();
await shot("large");
await press("g");
await page.emulateMedia({ colorScheme: "dark" });
await settled();
await shot("dark");
await page.setViewportSize({ width: 390, height: 780 });
await page.waitForTimeout(300);
report.phoneOverflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
await shot("phone");
await page.click("#showPanel");
await shot("phone_panel");
await page.click("#showPanel");
await page.setViewportSize({ width: 1280, height: 820 });

// Accessibility, in both colours, with everything shown
if (job.axe) {
  report.axe = [];
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await page.waitForTimeout(200);
    for (const shown of ["page", "help"]) {
      if (shown === "help") await page.click("#showHelp");
      await page.evaluate(readFileSync(job.axe, "utf8"));
      const { violations } = await page.evaluate(() => window.axe.run());
      report.axe.push(...violations.map(({ id, impact, nodes }) => [colorScheme, shown, id, impact, nodes.map(({ target }) => target.join(" ")).slice(0, 5)]));
      if (shown === "help") await page.keyboard.press("Escape");
    }
  }
}

// Other servers of the same address do not know this page's token: it says so, and keeps what is painted
await kill();
job.serve[job.serve.length - 1] = "another-token";
job.url = job.url.replace(/token=.*/, "token=another-token");
await start();
await press("b");
await page.mouse.click(...far([0.2, 0.9]));
await page.waitForFunction(() => /token/.test(document.getElementById("trouble").textContent));
report.token = await page.textContent("#trouble");
await page.goto(job.url);
await page.reload();
await page.waitForSelector("html[data-ready]");
await settled();
report.after = await page.evaluate(() => Object.keys(localStorage).filter((key) => key.startsWith("unetres/")).length);

await browser.close();

// The browser is killed a moment after a stroke
report.killed = [];
for (let round = 0; round < 4; round++) {
  const served = await chromium.launchServer({ executablePath: job.chromium, args: ["--no-sandbox"] });
  const client = await chromium.connect(served.wsEndpoint());
  page = await client.newPage({ viewport: { width: 1280, height: 820 } });
  await page.goto(`${job.url}#image=2`);
  await page.waitForSelector("html[data-ready]");
  await press("End");
  const before = await page.evaluate(async () => (await (await fetch("/api/project")).json()).images[1].revision);
  for (let stroke = 0; stroke < 5; stroke++) await drag([[40 * stroke + 20, 50 * round + 30], [40 * stroke + 50, 50 * round + 40]], { steps: 1 });
  await pause(200);
  const ended = new Promise((done) => served.process().once("exit", done));
  served.process().kill("SIGKILL");
  await ended;
  const answer = await fetch(`${new URL(job.url).origin}/api/project`, { headers: { "X-Unetres-Token": "another-token" } });
  report.killed.push((await answer.json()).images[1].revision - before);
}
await kill();
writeFileSync(`${job.out}/report.json`, JSON.stringify(report));
