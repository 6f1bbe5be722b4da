// Offline use: everything the page has loaded once is kept, and given where the network does not answer. It also adds the
// headers that threads need, and those of the page's policy. What is served now goes first, and addresses that are not the page's own are left alone:
// another model, or another app, may be served on this port by now.

const { version, files, policies } = self.OFFLINE; // a line that is put before these with the page
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
  const { method, url } = event.request;
  if (method === "GET" && isOwn(url)) event.respondWith(answer(event.request));
});

/** Whether an address is that of a file of the page. */
function isOwn(url) {
  const { scope } = self.registration;
  const name = url.startsWith(scope) ? url.slice(scope.length).replace(/[?#].*$/, "") : null;
  return name !== null && (name === "" || files.includes(name) || name.startsWith("litert/"));
}

/** Tell the page that its model is the one that was kept, and since when. */
async function tellKept(response) {
  const pages = await clients.matchAll({ type: "window" });
  for (const page of pages) page.postMessage({ kept: response.headers.get("Date") ?? "" });
}

async function answer(request) {
  let response;
  try {
    response = await fetch(request);
  } catch (error) {
    response = await (await caches.open(CACHE)).match(request, { ignoreSearch: true });
    if (!response) throw error;
    if (new URL(request.url).pathname.endsWith("/model.tflite")) await tellKept(response).catch(() => {});
  }
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  const policy = policies[request.url.slice(self.registration.scope.length).replace(/[?#].*$/, "")] ?? policies.page;
  if (policy) headers.append("Content-Security-Policy", policy); // beside that of a host, if it sends one
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
