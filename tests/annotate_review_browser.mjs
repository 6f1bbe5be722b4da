// Many tabs, a list of places to look at, and the exported file in the browser: node annotate_review_browser.mjs JOB.json
// JOB: {playwright, axe, chromium, serve: [program, ...words], url, token, box, out}. What was seen is written to OUT/report.json.

import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const job = JSON.parse(readFileSync(process.argv[2]));
const { chromium } = await import(pathToFileURL(job.playwright));
const report = { console: [], axe: [] };

const server = spawn(job.serve[0], job.serve.slice(1), { stdio: "inherit" });
const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });
for (let tries = 0; ; tries++) {
  if (await fetch(job.url).then((answer) => answer.ok, () => false)) break;
  if (tries > 1200) throw new Error("the server does not answer");
  await pause(50);
}
const browser = await chromium.launch({
  executablePath: job.chromium,
  args: ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"],
});
const context = await browser.newContext({ viewport: { width: 1280, height: 820 }, permissions: ["camera"] });
context.setDefaultTimeout(job.patience);

async function open() {
  const page = await context.newPage();
  page.on("pageerror", (error) => report.console.push(error.message));
  page.on("console", (line) => { if (/Content Security Policy/.test(line.text())) report.console.push(line.text()); });
  await page.goto(job.url);
  await page.waitForSelector("html[data-ready]");
  return page;
}
const text = (page, id) => page.textContent(`#${id}`);
const shot = (page, name) => page.screenshot({ path: `${job.out}/${name}.png` });

// More tabs than a browser allows connections to a server: the last one paints, and all hear of it
const tabs = [];
for (let count = 0; count < 8; count++) tabs.push(await open());
const last = tabs.at(-1);
await last.locator("#stage").focus();
await last.keyboard.press("End");
await last.keyboard.press("1");
const stage = await last.locator("#stage").boundingBox();
await last.mouse.move(stage.x + stage.width / 2, stage.y + stage.height / 2);
await last.mouse.down();
await last.mouse.move(stage.x + stage.width / 2 + 30, stage.y + stage.height / 2 + 9, { steps: 3 });
await last.mouse.up();
await last.waitForFunction(() => document.getElementById("saved").dataset.state === "saved");
const heard = (page) => page.waitForFunction(() => !document.getElementById("undo").disabled).then(() => true, () => false);
report.heard = await Promise.all(tabs.map(heard));
for (const page of tabs.splice(2)) await page.close();
const [page, other] = tabs;

// From place to place by keys alone: one is made unknown, one is done
await page.bringToFront();
await page.locator("#stage").focus();
report.count = [await text(page, "reviewCount")];
await page.keyboard.press("j");
report.says = [await text(page, "status")];
report.url = page.url();
const framed = () => page.evaluate(() => {
  const cells = [...document.querySelectorAll("#over canvas")];
  return cells.some((cell) => cell.getContext("2d").getImageData(0, 0, cell.width, cell.height).data.some((value, at) => at % 4 === 3 && value > 0));
});
for (let tries = 0; tries < 20 && !(report.framed = await framed()); tries++) await page.waitForTimeout(300);
await shot(page, "review");
await page.keyboard.press("u");
await page.waitForFunction(() => document.getElementById("saved").dataset.state === "saved");
await page.keyboard.press("d");
await page.waitForFunction((before) => document.getElementById("reviewCount").textContent !== before, report.count[0]);
report.count.push(await text(page, "reviewCount"));
report.says.push(await text(page, "status"));
await other.waitForFunction((now) => document.getElementById("reviewCount").textContent === now, report.count[1]);
await page.keyboard.press("k");
report.says.push(await text(page, "status"));
report.mask = await page.evaluate(async (image) => {
  const answer = await fetch(`/api/images/${image}/mask/0/0/0.png?of=classes`);
  return btoa(String.fromCharCode(...new Uint8Array(await answer.arrayBuffer())));
}, job.image);
await other.close();

for (const colorScheme of ["light", "dark"]) {
  await page.emulateMedia({ colorScheme });
  await page.waitForTimeout(200);
  await page.evaluate(readFileSync(job.axe, "utf8"));
  const { violations } = await page.evaluate(() => window.axe.run());
  report.axe.push(...violations.map(({ id, impact, nodes }) => [colorScheme, id, impact, nodes.map(({ target }) => target.join(" ")).slice(0, 5)]));
  await shot(page, `review_${colorScheme}`);
}
await page.emulateMedia({ colorScheme: "light" });
await page.setViewportSize({ width: 820, height: 1180 });
await page.click("#showPanel");
await page.waitForTimeout(300);
report.overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
await shot(page, "review_tablet");
await page.setViewportSize({ width: 1280, height: 820 });

// The exported file runs in the viewer's browser: on the sample, then on a camera
const [run] = await Promise.all([context.waitForEvent("page"), page.click("#runHere a")]);
run.on("pageerror", (error) => report.console.push(error.message));
await run.waitForSelector("#sample:not([hidden])");
await run.click("#sample");
await run.waitForFunction(() => !document.getElementById("mask").disabled || !document.getElementById("error").hidden);
report.run = { status: await text(run, "status"), error: await run.isVisible("#error"), isolated: await run.evaluate(() => crossOriginIsolated) };
await shot(run, "run");
await run.evaluate(() => { document.getElementById("latency").textContent = ""; });
await run.click("#camera");
await run.waitForFunction(() => document.getElementById("latency").textContent || !document.getElementById("error").hidden);
report.run.camera = [await run.getAttribute("#camera", "aria-pressed"), await run.isVisible("#error")];
await browser.close();
const ended = new Promise((done) => server.once("exit", done));
server.kill("SIGKILL");
await ended;
writeFileSync(`${job.out}/report.json`, JSON.stringify(report));
