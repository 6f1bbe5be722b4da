"""Ultralytics: YOLO26n semantic segmentation without pretraining, its own training by the clock and its own exports."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from _job import kilobytes, read_job, report, use_threads, write_maps

job = read_job()
use_threads(job)
os.environ |= {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_CONFIG_DIR": str(job.out)}

import _torch  # noqa: E402, F401

# isort: split
from ultralytics import YOLO  # noqa: E402

NETWORK, STRIDE = "yolo26n-sem.yaml", 32


def declare() -> Path:
    """Lay the data out as Ultralytics wants it, and return its YAML file (JSON is YAML)."""
    root = job.out / "data"
    for part in ("train", "val"):
        for kind in ("images", "masks"):
            (root / kind).mkdir(parents=True, exist_ok=True)
            (root / kind / part).symlink_to((job.data / part / kind).resolve())
    file = root / "data.yaml"
    told = {"path": str(root), "train": "images/train", "val": "images/val", "masks_dir": "masks", "names": job.classes}
    file.write_text(json.dumps(told))
    return file


def segmenter(model: YOLO) -> Callable[[np.ndarray], np.ndarray]:
    """Return what gives the class map of a picture."""

    def segment(image: np.ndarray) -> np.ndarray:
        colours = np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3))[..., ::-1])
        (result,) = model.predict(colours, imgsz=side, verbose=False, device="cpu")
        return np.asarray(result.semantic_mask.data).squeeze()

    return segment


data = declare()
longest = median(max(mask.shape) for _, mask in job.pairs("train"))
side = int(-(-longest // STRIDE) * STRIDE)
model = YOLO(NETWORK)
begun = time.perf_counter()
steps = [0]
model.add_callback("on_train_batch_start", lambda trainer: steps.__setitem__(0, steps[0] + 1))
model.train(
    data=str(data),
    time=job.minutes / 60,
    imgsz=side,
    pretrained=False,
    device="cpu",
    workers=job.threads,
    seed=job.seed,
    plots=False,
    project=str(job.out),
    name="run",
)
seconds = round(time.perf_counter() - begun, 1)
best = job.out / "run" / "weights" / "best.pt"
model = YOLO(best)
write_maps(job, "float", segmenter(model))
files = []
for form, kind, more in (
    ("openvino", "OpenVINO float32", {}),
    ("openvino_int8", "OpenVINO int8", {"quantize": 8, "data": str(data)}),
):
    folder = Path(YOLO(best).export(format="openvino", imgsz=side, **more))
    segment = segmenter(YOLO(folder, task="semantic"))
    write_maps(job, form, segment)
    size = kilobytes(*folder.glob("*.xml"), *folder.glob("*.bin"))
    files.append({"form": form, "kind": kind, "int8": bool(more), "kb": size, "ms": job.milliseconds(segment)})
report(
    job,
    ("ultralytics", "torch", "openvino", "nncf"),
    seconds=seconds,
    steps=steps[0],
    parameters=sum(parameter.numel() for parameter in model.model.parameters()),
    settings=f"{NETWORK.removesuffix('.yaml')} from scratch, imgsz {side}, everything else as it comes",
    files=files,
)
