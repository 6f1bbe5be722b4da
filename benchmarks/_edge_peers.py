"""One peer's wrapper against its own bare inference, for `edge_overhead.py`; runs in the peers' own environment.

python _edge_peers.py mediapipe|openvino-model-api MODEL COUNT THREADS
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from statistics import median

import numpy as np


def main() -> None:
    """Print the medians as one line of JSON."""
    peer, model, count, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    image = np.random.default_rng(1).integers(0, 256, (256, 256, 3)).astype(np.uint8)
    make = {"mediapipe": mediapipe, "openvino-model-api": model_api}[peer]
    bare, whole = make(model, image, threads)
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(count + 5):
        for side, call in enumerate((bare, whole)):
            start = time.perf_counter()
            call()
            if turn >= 5:
                times[side].append(1e3 * (time.perf_counter() - start))
    low, high = map(median, times)
    print(
        json.dumps(
            {
                "bare_ms": round(low, 3),
                "segment_ms": round(high, 3),
                "ratio": round(high / low, 4),
                "extra_ms": round(high - low, 3),
                "count": count,
            }
        )
    )


def mediapipe(model: str, image: np.ndarray, threads: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """Bare LiteRT on the same float file, and MediaPipe's Image Segmenter with a category mask; it chooses threads."""
    import mediapipe as mp
    from ai_edge_litert.interpreter import Interpreter
    from mediapipe.tasks import python
    from mediapipe.tasks.python import vision

    interpreter = Interpreter(model_path=model, num_threads=threads)
    interpreter.allocate_tensors()
    options = vision.ImageSegmenterOptions(
        base_options=python.BaseOptions(model_asset_path=model),
        output_category_mask=True,
        output_confidence_masks=False,
    )
    segmenter = vision.ImageSegmenter.create_from_options(options)
    return interpreter.invoke, lambda: segmenter.segment(mp.Image(image_format=mp.ImageFormat.SRGB, data=image))


def model_api(model: str, image: np.ndarray, threads: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """Bare OpenVINO and OpenVINO Model API's segmentation model on the same network, with scores as (1, C, h, w)."""
    import openvino
    from model_api.models import SegmentationModel

    core = openvino.Core()
    steps = openvino.preprocess.PrePostProcessor(core.read_model(model))
    steps.output().model().set_layout(openvino.Layout("NHWC"))
    steps.output().tensor().set_layout(openvino.Layout("NCHW")).set_element_type(openvino.Type.f32)
    network, options = steps.build(), {"INFERENCE_NUM_THREADS": threads}
    request = core.compile_model(network, "CPU", options).create_infer_request()
    with tempfile.TemporaryDirectory() as folder:
        openvino.save_model(network, f"{folder}/m.xml", compress_to_fp16=False)
        wrapper = SegmentationModel.create_model(
            f"{folder}/m.xml", "Segmentation", device="CPU", nthreads=threads, max_num_requests=1
        )
    return request.infer, lambda: wrapper(image)


if __name__ == "__main__":
    main()
