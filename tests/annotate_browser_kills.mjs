// Paint with a mouse in Chromium, which is killed at random moments: node annotate_browser_kills.mjs JOB.json
// JOB: {playwright, chromium, serve: [program, ...words], url, out, kills, seed, minutes}. Written to OUT/report.json: each stroke
// whose button was let go, by its first point, with the milliseconds from then to the kill.

import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const job = JSON.parse(readFileSync(process.argv[2]));
const { chromium } = await import(pathToFileURL(job.playwright));
const report = { strokes: [], down: [], adopted: 0 };
const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });

let seed = job.seed;
const random = () => { // mulberry32
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
};

const server = spawn(job.serve[0], job.serve.slice(1), { stdio: "inherit" });
const revision = async () => (await (await fetch(`${new URL(job.url).origin}/api/project`, { headers: { "X-Unetres-Token": job.token } })).json()).images[0].revision;
for (let tries = 0; ; tries++) {
  if (await fetch(job.url).then((answer) => answer.ok, () => false)) break;
  if (tries > 600) throw new Error("the server does not answer");
  await pause(50);
}

/** A browser of the same profile each time, in a group of processes of its own. */
async function launch() {
  const words = ["--headless=new", "--no-sandbox", "--remote-debugging-port=0", "--window-size=1280,820", `--user-data-dir=${job.out}/profile`, "about:blank"];
  const browser = spawn(job.chromium, words, { detached: true, stdio: ["ignore", "ignore", "pipe"] });
  const address = await new Promise((done, failed) => {
    let said = "";
    browser.stderr.on("data", (data) => {
      said += data;
      const found = /DevTools listening on (ws:\S+)/.exec(said);
      if (found) done(found[1]);
    });
    browser.once("exit", () => failed(new Error(said)));
  });
  return { browser, client: await chromium.connectOverCDP(address) };
}

async function open() {
  const { browser, client } = await launch();
  const page = await client.contexts()[0].newPage();
  page.setDefaultTimeout(60_000);
  await page.goto(job.url);
  await page.waitForSelector("html[data-ready]");
  await page.waitForFunction(() => document.getElementById("saved").dataset.state === "saved"); // an earlier browser's strokes are sent
  return { browser, page };
}

let number = 0;
let last = await revision();
const end = Date.now() + 60_000 * job.minutes;
let isLast = false; // after the last kill it paints once more, and all is sent
for (let round = 0; !isLast; round++) {
  isLast = round >= job.kills || Date.now() > end;
  const { browser, page } = await open();
  report.adopted += await revision() - last;
  await page.locator("#stage").focus();
  await page.keyboard.press("End");
  const box = await page.locator("#stage").boundingBox();
  const [left, top] = [box.x + box.width / 2 - 48, box.y + box.height / 2 - 48];
  /** @type {{id: string, up: number}[]} */
  const ended = [];
  let down = false;
  const dead = new Promise((done) => browser.once("exit", done));
  let killed = Infinity;
  const kill = () => {
    killed = Date.now();
    process.kill(-browser.pid, "SIGKILL");
  };
  if (!isLast) setTimeout(kill, 50 + 2000 * random());
  try {
    for (let stroke = 0; !isLast || stroke < 3; stroke++) {
      const [x, y] = [1 + number % 93, 1 + Math.floor(number / 93) % 93]; // another first point for each
      number++;
      await page.mouse.move(left + x, top + y);
      await page.mouse.down();
      down = true;
      await page.mouse.move(left + 96 * random(), top + 96 * random(), { steps: 1 + Math.floor(6 * random()) });
      await page.mouse.up();
      down = false;
      ended.push({ id: `${x},${y}`, up: Date.now() });
      if (random() < 0.5) await pause(400 * random());
    }
    await page.waitForFunction(() => document.getElementById("saved").dataset.state === "saved");
    kill();
  } catch (error) {
    if (killed === Infinity) throw error;
  }
  await dead;
  report.strokes.push(...ended.filter(({ up }) => up <= killed).map(({ id, up }) => ({ id, before: killed - up })));
  report.down.push(down);
  await pause(100);
  last = await revision();
  console.log(`${round + 1} of ${job.kills + 1}: ${ended.length} strokes`);
}
const ended = new Promise((done) => server.once("exit", done));
server.kill("SIGTERM");
await ended;
writeFileSync(`${job.out}/report.json`, JSON.stringify(report));
