// Drive the page in a real browser: node browser.mjs JOB.json
// JOB: {url, elsewhere, chromium, image, stack, animated, models: {name: file}, out}; writes OUT/report.json, the downloads and screenshots.

import { readFileSync, writeFileSync } from "node:fs";
import { chromium } from "playwright-core";

const { url, elsewhere, chromium: executablePath, image, stack, animated, models, out } = JSON.parse(readFileSync(process.argv[2]));
const report = { console: [] };
// A camera that shows a green picture with a running clock, and a permission that is given without asking.
const camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"];
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", ...camera] });
const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, acceptDownloads: true });
let page = await context.newPage();
page.setDefaultTimeout(60_000);
page.on("pageerror", (error) => report.console.push(error.message));
let listens = true; // for what the policy refuses, while nothing is tried on purpose
page.on("console", (line) => { if (listens && /Content Security Policy/.test(line.text())) report.console.push(line.text()); });
const told = () => page.evaluate(() => ({ model: document.documentElement.dataset.model, status: document.getElementById("status").textContent }));

const idle = () => page.waitForFunction(() => {
  const text = document.getElementById("status").textContent;
  return !document.getElementById("error").hidden || (text && !text.endsWith("…"));
});
const error = async () => {
  await idle();
  const box = page.locator("#error");
  return (await box.isHidden()) ? null : { code: await box.getAttribute("data-code"), text: await box.textContent() };
};
const download = async (button, name) => {
  const [file] = await Promise.all([page.waitForEvent("download"), page.click(button)]);
  await file.saveAs(`${out}/${name}`);
};
/** Drop a file on the page, as a user does. */
const drop = async (file) => {
  const bytes = readFileSync(file).toString("base64");
  await page.evaluate(([base64, name]) => {
    const data = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([data], name));
    dispatchEvent(new DragEvent("drop", { dataTransfer, cancelable: true }));
  }, [bytes, file.split("/").pop()]);
};

const begin = Date.now();
await page.goto(url);
report.load = await error();
report.model = [await told()];
report.readyMs = Date.now() - begin;
await page.screenshot({ path: `${out}/empty.png` });
await drop(image);
report.first = await error();
await page.waitForFunction(() => !document.getElementById("mask").disabled);
report.firstMaskMs = Date.now() - begin;
report.backend = await page.textContent("#backend");
report.legend = await page.locator("#legend tbody tr").allTextContents();
report.label = await page.getAttribute("#edges", "aria-label");
await download("#mask", "mask.png");
await download("#geojson", "mask.geojson");
await download("#overlay", "overlay.png");
await page.mouse.move(640, 820);
await page.screenshot({ path: `${out}/desktop.jpg`, quality: 80 });
await page.emulateMedia({ colorScheme: "dark" });
await page.screenshot({ path: `${out}/dark.png` });
await page.emulateMedia({ colorScheme: "light" });
await page.setViewportSize({ width: 390, height: 844 });
await page.screenshot({ path: `${out}/phone.png`, fullPage: true });
report.phoneOverflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
await page.setViewportSize({ width: 1280, height: 860 });

/** Open a file and wait for its mask. */
const open = async (doing) => {
  await page.locator("#mask").evaluate((button) => { button.disabled = true; });
  await doing();
  await page.waitForFunction(() => !document.getElementById("mask").disabled || !document.getElementById("error").hidden);
};
await open(() => drop(stack));
report.stack = { error: await error(), pages: await page.textContent("#count") };
await download("#mask", "stack_0.png");
await open(async () => {
  await page.fill("#page", "2");
  await page.press("#page", "Enter");
});
report.stack.status = await page.textContent("#status");
await download("#mask", "stack_1.png");
await page.screenshot({ path: `${out}/stack.png` });
await open(() => page.click("#sample"));
report.sample = { error: await error(), status: await page.textContent("#status"), pages: await page.isVisible("#pages") };
await download("#mask", "sample.png");
await drop(animated);
await page.waitForFunction(() => !document.getElementById("error").hidden);
report.animated = await error();
report.wrong = {};
for (const [name, file] of Object.entries(models)) {
  await drop(file);
  await page.waitForFunction(() => !document.getElementById("error").hidden);
  report.wrong[name] = await error();
  if (name === "flipped") await page.screenshot({ path: `${out}/error.png` });
}
await page.locator("#mask").evaluate((button) => { button.disabled = true; });
await page.setInputFiles("#file2", image); // a second image after errors, with the model that was there
await page.waitForFunction(() => !document.getElementById("mask").disabled);
report.second = await error();
await download("#mask", "second.png");

// The page answers while the worker computes: count frames of a timer during one image.
report.ticks = await page.evaluate(async (base64) => {
  let ticks = 0;
  const timer = setInterval(() => { ticks += 1; }, 10);
  const before = document.getElementById("latency").textContent;
  document.getElementById("latency").textContent = "";
  const data = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([data], "again.png"));
  dispatchEvent(new DragEvent("drop", { dataTransfer }));
  while (!document.getElementById("latency").textContent) await new Promise((done) => { setTimeout(done, 5); });
  clearInterval(timer);
  return { ticks, before };
}, readFileSync(image).toString("base64"));

report.camera = { seen: [] };
await page.click("#camera");
for (let frame = 0; frame < 4; frame++) {
  await page.evaluate(() => { document.getElementById("latency").textContent = ""; });
  await page.waitForFunction(() => document.getElementById("latency").textContent);
  report.camera.seen.push(await page.textContent("#status"));
}
report.camera.pressed = await page.getAttribute("#camera", "aria-pressed");
report.camera.error = await error();
await page.screenshot({ path: `${out}/camera.png` });
await page.click("#camera");
report.camera.released = await page.getAttribute("#camera", "aria-pressed");

listens = false;
report.policy = await page.evaluate(async () => {
  const violations = [];
  document.addEventListener("securitypolicyviolation", (event) => violations.push(event.effectiveDirective));
  const pause = () => new Promise((done) => { setTimeout(done, 300); });
  new Image().src = "http://127.0.0.1:9/a.png";
  await pause();
  const script = document.createElement("script");
  script.textContent = "window.ran = true";
  document.body.append(script);
  await pause();
  document.body.setAttribute("style", "color: red");
  await pause();
  await fetch("http://127.0.0.1:9/").catch(() => {});
  await pause();
  document.body.removeAttribute("style");
  return { violations, ran: !!window.ran };
});
listens = true;

await page.waitForFunction(() => document.documentElement.dataset.offline === "ready");
await context.setOffline(true);
await page.reload();
report.offlineLoad = await error();
report.model.push(await told());
await drop(image);
await page.waitForFunction(() => !document.getElementById("mask").disabled);
report.offline = await error();
await download("#mask", "offline.png");
await browser.close();

// From another machine, over plain http, which browsers trust less: no threads, no camera, no digest of their own.
const other = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
page = await (await other.newContext({ acceptDownloads: true })).newPage();
page.setDefaultTimeout(60_000);
page.on("pageerror", (problem) => report.console.push(problem.message));
await page.goto(elsewhere);
report.elsewhere = { load: await error(), secure: await page.evaluate(() => isSecureContext) };
await drop(image);
await page.waitForFunction(() => !document.getElementById("mask").disabled);
report.elsewhere.backend = await page.textContent("#backend");
await download("#mask", "elsewhere.png");
await page.click("#camera");
await page.waitForFunction(() => !document.getElementById("error").hidden);
report.elsewhere.camera = await error();
await page.setViewportSize({ width: 390, height: 844 });
await page.screenshot({ path: `${out}/phone_http.png`, fullPage: true });
await other.close();

// WebGPU on a GPU that is computed by the processor, where Chromium brings one.
const gpu = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"];
const second = await chromium.launch({ executablePath, args: ["--no-sandbox", ...gpu] });
page = await (await second.newContext({ acceptDownloads: true })).newPage();
page.setDefaultTimeout(120_000);
page.on("pageerror", (problem) => report.console.push(problem.message));
await page.goto(url);
await idle();
report.adapter = await page.evaluate(async () => !!(navigator.gpu && await navigator.gpu.requestAdapter()));
if (report.adapter) {
  await drop(image);
  await page.waitForFunction(() => !document.getElementById("mask").disabled);
  report.gpu = [];
  for (const accelerator of ["webgpu", "wasm"]) { // and back
    await page.evaluate(() => { document.getElementById("latency").textContent = ""; });
    await page.selectOption("#accelerator", accelerator);
    await page.waitForFunction(() => document.getElementById("latency").textContent || !document.getElementById("error").hidden);
    report.gpu.push({ backend: await page.textContent("#backend"), error: await error() });
    await download("#mask", `${accelerator}.png`);
  }
}
await second.close();
writeFileSync(`${out}/report.json`, JSON.stringify(report));
