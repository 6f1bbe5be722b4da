// What others do and what the server computes, heard through one connection for all tabs of a browser: with one for each, six tabs
// would use up the connections that a browser allows to a server. This module runs in the page, and as the shared worker that listens.

const AGAIN = 2000; // ms until a stream that was refused is asked for again

/** @typedef {{event?: any, open?: boolean}} Word what the worker says to a tab */

/**
 * Hear events, again and again where the connection ends.
 * @param {(event: any) => void} heard
 * @param {(open: boolean) => void} connected
 */
function listen(heard, connected) {
  const source = new EventSource("/api/events");
  source.onopen = () => connected(true);
  source.onerror = () => {
    connected(false);
    if (source.readyState === EventSource.CLOSED) setTimeout(() => listen(heard, connected), AGAIN);
  };
  source.onmessage = ({ data }) => heard(JSON.parse(data));
}

/**
 * Hear events together with the other tabs; alone where a browser has no shared workers, such as Chrome on Android.
 * @param {(event: any) => void} heard
 * @param {(open: boolean) => void} connected
 */
export function listenTogether(heard, connected) {
  if (!("SharedWorker" in globalThis)) return listen(heard, connected);
  const { port } = new SharedWorker(import.meta.url, { type: "module", name: "unetres events" });
  port.onmessage = ({ data }) => {
    const { event, open } = /** @type {Word} */ (data);
    if (open !== undefined) connected(open);
    if (event !== undefined) heard(event);
  };
  addEventListener("pagehide", () => port.postMessage("leave"));
  addEventListener("pageshow", ({ persisted }) => {
    if (!persisted) return;
    port.postMessage("join");
    connected(false); // what happened meanwhile was not heard
    connected(true);
  });
}

/** Listen for all tabs, from the first on. @param {any} worker the scope of a shared worker */
function serve(worker) {
  /** @type {Set<MessagePort>} */
  const ports = new Set();
  /** @type {boolean | undefined} */
  let open;
  const tell = (/** @type {Word} */ word) => ports.forEach((port) => port.postMessage(word));
  worker.onconnect = (/** @type {MessageEvent} */ { ports: [port] }) => {
    ports.add(port);
    port.onmessage = ({ data }) => {
      if (data === "leave") ports.delete(port);
      else ports.add(port);
    };
    if (open !== undefined) port.postMessage({ open });
  };
  listen((event) => tell({ event }), (now) => {
    open = now;
    tell({ open });
  });
}

if ("onconnect" in globalThis) serve(globalThis);
