// The thread that runs the model. A classic worker: LiteRT.js needs importScripts.

let segmenter = null;
let turn = Promise.resolve();

async function answer({ kind, model, options, image, scores, confidence }) {
  const { Segmenter } = await import("./segmenter.js");
  if (kind === "load") {
    const next = await Segmenter.load(model, options);
    segmenter?.close();
    segmenter = next;
    const resources = performance.getEntriesByType("resource").map((entry) => entry.name);
    return [{ card: segmenter.card, backend: segmenter.backend, overlap: segmenter.overlap, resources }];
  }
  const result = await segmenter.segment(image, { scores, confidence });
  image.close?.();
  const arrays = [result.classMap, result.scores, result.confidence].filter(Boolean);
  return [result, arrays.map((array) => array.buffer)];
}

self.onmessage = ({ data }) => {
  turn = turn.then(async () => {
    try {
      const [result, moved] = await answer(data);
      self.postMessage({ id: data.id, result }, moved ?? []);
    } catch (error) {
      const problem = error.toJSON?.() ?? { code: "error", message: error?.message ?? `${error}` };
      self.postMessage({ id: data.id, problem });
    }
  });
};
