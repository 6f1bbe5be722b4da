// Frames and work of the page while one paints, and how long the forest's answer takes: node annotate_frames.mjs JOB.json
// JOB: {playwright, chromium, url, token, out, seconds, strokes, learn, views: {NAME: {image, width, height, size}}}, and
// serve: [program, ...words] where the server is not there already. Written to OUT/report.json, for each view: {view, frames, answers, composed}.
// frames: of the painting, [ms since the last one, pixels drawn, pixels of the canvases that were drawn on].
// composed: what Chromium did for them: frames drawn, quads composed, tiles of the page painted anew, ms of processor time.

import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const job = JSON.parse(readFileSync(process.argv[2]));
const { chromium } = await import(pathToFileURL(job.playwright));
const report = {};

/** Counts, in the page, what is drawn in each frame: on canvases that are seen, and in colouring tiles. */
function count() {
  const now = { drawn: 0, canvases: new Set() };
  const counts = { on: false, frames: [], last: 0, answered: 0 };
  window.counts = counts;
  const clips = new WeakMap();
  const place = (context) => {
    const { a, d, e, f } = context.getTransform();
    return (x, y, width, height) => [e + a * x, f + d * y, e + a * (x + width), f + d * (y + height)];
  };
  const meet = ([a, b, c, d], [e, f, g, h]) => [Math.max(a, e), Math.max(b, f), Math.min(c, g), Math.min(d, h)];
  const state = (context) => {
    if (!clips.has(context)) clips.set(context, { path: null, clip: null, stack: [] });
    return clips.get(context);
  };
  const note = (context, box) => {
    const { canvas } = context;
    let seen = meet(box, [0, 0, canvas.width, canvas.height]);
    const { clip } = state(context);
    if (clip) seen = meet(seen, clip);
    now.drawn += Math.max(0, seen[2] - seen[0]) * Math.max(0, seen[3] - seen[1]);
    if (canvas instanceof HTMLCanvasElement) now.canvases.add(canvas);
  };
  const wrap = (type, name, before) => {
    const plain = type.prototype[name];
    type.prototype[name] = function (...given) {
      before(this, ...given);
      return plain.apply(this, given);
    };
  };
  for (const type of [CanvasRenderingContext2D, OffscreenCanvasRenderingContext2D]) {
    wrap(type, "rect", (context, ...box) => { state(context).path = place(context)(...box); });
    wrap(type, "beginPath", (context) => { state(context).path = null; });
    wrap(type, "clip", (context) => { state(context).clip = state(context).path ?? state(context).clip; });
    wrap(type, "save", (context) => { state(context).stack.push(state(context).clip); });
    wrap(type, "restore", (context) => { state(context).clip = state(context).stack.pop() ?? null; });
    for (const name of ["clearRect", "fillRect"]) wrap(type, name, (context, ...box) => note(context, place(context)(...box)));
    wrap(type, "drawImage", (context, image, ...to) => {
      const [x, y, width, height] = to.length > 4 ? to.slice(4) : to.length > 2 ? to : [...to, image.width, image.height];
      note(context, place(context)(x, y, width, height));
    });
    wrap(type, "putImageData", (context, image, x, y) => {
      counts.answered = performance.now();
      note(context, [x, y, x + image.width, y + image.height]);
    });
  }
  const tick = (time) => {
    const held = [...now.canvases].reduce((sum, { width, height }) => sum + width * height, 0);
    if (counts.on) counts.frames.push([time - counts.last, now.drawn, held]);
    counts.last = time;
    now.drawn = 0;
    now.canvases.clear();
    requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
}

const server = job.serve && spawn(job.serve[0], job.serve.slice(1), { stdio: "inherit" });
while (!await fetch(job.url).then((answer) => answer.ok, () => false)) await new Promise((done) => { setTimeout(done, 100); });
const browser = await chromium.launch({ executablePath: job.chromium, args: ["--no-sandbox"] });
report.version = browser.version();
const headers = { "X-Unetres-Token": job.token, "Content-Type": "application/json" };
const ask = async (path, body) => (await fetch(new URL(path, job.url), body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers })).json();
if (job.learn) await ask("/api/learner", { do: "start" });
for (const [name, { image, width, height, size }] of Object.entries(job.views)) {
  const context = await browser.newContext({ viewport: { width, height } });
  const page = await context.newPage();
  page.setDefaultTimeout(300_000);
  await page.addInitScript(count);
  let asked = 0; // requests for tiles that are under way
  const of = (request) => /\.png(\?|$)/.test(request.url());
  page.on("request", (request) => { asked += of(request); });
  for (const end of ["requestfinished", "requestfailed"]) page.on(end, (request) => { asked -= of(request); });
  const quiet = async (ms) => {
    for (let since = Date.now(); Date.now() - since < ms; await page.waitForTimeout(20)) if (asked) since = Date.now();
  };
  await page.goto(`${job.url}#image=${image}`);
  await page.waitForSelector("html[data-ready]");
  await quiet(3000);
  await page.locator("#stage").focus();
  await page.keyboard.press("Home");
  await page.evaluate((px) => {
    const slider = document.getElementById("size");
    slider.value = 100 * Math.log(px) / Math.log(10_000);
    slider.dispatchEvent(new Event("input"));
  }, size);
  const { x: left, y: top, width: across, height: down } = await page.locator("#stage").boundingBox();
  const at = (x, y) => [left + x * across, top + y * down];
  const paint = async (key, points, steps = 4) => {
    await page.keyboard.press(key);
    await page.mouse.move(...at(...points[0]));
    await page.mouse.down();
    for (const point of points.slice(1)) await page.mouse.move(...at(...point), { steps });
    await page.mouse.up();
  };

  // Frames: strokes without a pause, of which the answers come meanwhile
  await paint("0", [[0.2, 0.2], [0.24, 0.2]]);
  await paint("1", [[0.3, 0.3], [0.34, 0.3]]);
  await page.waitForTimeout(1000);
  await browser.startTracing(page, { categories: ["cc", "viz", "benchmark", "toplevel"] });
  await page.evaluate(() => { counts.on = true; });
  const end = Date.now() + 1000 * job.seconds;
  for (let stroke = 0; Date.now() < end; stroke++) {
    const [x, y] = [0.2 + 0.05 * (stroke % 12), 0.2 + 0.05 * (Math.floor(stroke / 12) % 12)];
    await paint(`${stroke % 2}`, [[x, y], [x + 0.04, y + 0.02], [x + 0.02, y + 0.04]], 12);
  }
  const frames = await page.evaluate(() => {
    counts.on = false;
    return counts.frames;
  });
  const { traceEvents } = JSON.parse(await browser.stopTracing());
  const events = (name) => traceEvents.filter((event) => event.ph === "X" && event.name === name);
  const composed = {
    draws: events("Display::DrawAndSwap").length,
    quads: traceEvents.filter(({ ph, name: of }) => ph === "X" && /DoDrawQuad/.test(of)).length,
    painted: events("RasterTask").length,
    ms: events("ThreadControllerImpl::RunTask").reduce((sum, { tdur }) => sum + (tdur ?? 0) / 1000, 0),
  };
  const view = await page.evaluate(() => document.getElementById("stage").clientWidth * document.getElementById("stage").clientHeight * devicePixelRatio ** 2);

  // Answers: from the release of the button to the last part that is drawn
  const answers = [];
  if (job.strokes) {
    await page.keyboard.press("g");
    await page.waitForTimeout(3000);
    await quiet(3000);
    for (let stroke = 0; stroke < job.strokes; stroke++) {
      const [x, y] = [0.25 + 0.04 * (stroke % 10), 0.25 + 0.2 * Math.floor(stroke / 10)];
      await paint(`${stroke % 2}`, [[x, y], [x + 0.02, y + 0.02]]);
      const begun = await page.evaluate(() => performance.now());
      await page.waitForTimeout(300);
      await quiet(1500);
      answers.push(await page.evaluate(() => counts.answered) - begun);
    }
  }
  report[name] = { view, frames, answers, composed };
  await context.close();
}
report.learner = job.learn ? await ask("/api/learner") : null;
await browser.close();
server?.kill("SIGKILL");
writeFileSync(`${job.out}/report.json`, JSON.stringify(report));
