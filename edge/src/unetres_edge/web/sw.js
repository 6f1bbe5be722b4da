// Offline use: everything the page has loaded once is kept. It also adds the headers that threads need.

importScripts("offline.js"); // written beside this file with the page: a version, and the files that every browser needs
const { version, files } = self.OFFLINE;
const CACHE = `unetres-${version}`;

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(files)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  const old = caches.keys().then((names) => names.filter((name) => name.startsWith("unetres-") && name !== CACHE));
  event.waitUntil(old.then((names) => Promise.all(names.map((name) => caches.delete(name)))).then(() => clients.claim()));
});

// The page names what its worker has loaded before this was in charge: the WebAssembly that this browser takes.
self.addEventListener("message", (event) => {
  const own = event.data.filter((url) => url.startsWith(self.registration.scope));
  const kept = caches.open(CACHE).then((cache) => Promise.all(own.map(async (url) => {
    if (!(await cache.match(url))) await cache.add(url);
  })));
  event.waitUntil(kept.then(() => event.source.postMessage("offline")));
});

self.addEventListener("fetch", (event) => {
  if (event.request.method === "GET" && event.request.url.startsWith(self.registration.scope)) {
    event.respondWith(answer(event.request));
  }
});

async function answer(request) {
  const cache = await caches.open(CACHE);
  const key = request.mode === "navigate" ? new URL("index.html", self.registration.scope).href : request;
  let response = await cache.match(key);
  if (!response) {
    response = await fetch(request);
    if (response.ok && response.status === 200) await cache.put(key, response.clone());
  }
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
