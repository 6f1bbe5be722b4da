"""Sets that grow: seconds and memory of `unetres check` and of the first epoch over pictures in a folder and in shards.

    python benchmarks/scale.py [--pictures 2000 20000] [--forms folder tar parquet] [--large 20] [--folder F]

Pictures of 64 px are drawn from a seed and written as a folder of PNG files or as shards of a thousand; the large ones
are of 8,000 px. Each command is a process of its own, whose seconds, of the wall and of the processor, and peak
resident memory are taken. What was drawn is deleted afterwards. Figures to results/scale.json, where those of other
sizes and forms stay.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _command import given_command
from PIL import Image, ImageDraw

from unetres_edge.files import make_folder, write_json

RESULTS = Path(__file__).resolve().parent / "results"
SIDE, LARGE_SIDE = 64, 8000  # px
A_SHARD = 1000  # pictures of a tar
A_ROW_GROUP = 100  # pictures, as Hugging Face writes them
TINY = ["--no-plan", "--filters", "2", "--depth", "2", "--epochs", "1", "--augment", "none"]
TINY += ["--precision", "float32", "--compile", "graph"]
MARKS = ("data", "plan", "best")  # the lines of a training whose moment is kept


def main() -> None:
    """Draw each set, run both commands over it, and write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, nargs="*", default=[2000, 20000])
    parser.add_argument("--forms", nargs="*", default=list(WRITERS), choices=list(WRITERS))
    parser.add_argument("--large", type=int, default=20, help="pictures of 8,000 px; 0 for none")
    parser.add_argument("--folder", type=Path, help="where pictures are drawn (the system's folder for temporary ones)")
    options = parser.parse_args()
    file = make_folder(RESULTS) / "scale.json"
    sets = [(form, count, SIDE) for count in options.pictures for form in options.forms]
    sets += [("folder", options.large, LARGE_SIDE)] * bool(options.large)
    for form, count, side in sets:
        name = f"{count} x {side} px, {form}"
        with tempfile.TemporaryDirectory(dir=options.folder, prefix="scale-") as folder:
            for run in measure(form, count, side, Path(folder)):
                keep(file, name, run)
        print(f"{name}: {json.dumps(run)}", flush=True)


def keep(file: Path, name: str, run: dict[str, Any]) -> None:
    """Write the figures of a set beside those of others."""
    figures: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"runs": {}}
    figures["cores"] = os.cpu_count()
    figures["runs"][name] = {"command": given_command(), **run}
    write_json(file, figures)


def measure(form: str, count: int, side: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Draw a set and yield the figures, of the check and then of both commands."""
    WRITERS[form](folder / "data", count, side)
    size, batch = (side, 256) if side == SIDE else (256, 16)
    shape = ["--size", str(size), "--batch", str(batch)]
    found: dict[str, Any] = {
        "bytes": sum(path.stat().st_size for path in (folder / "data").rglob("*") if path.is_file()),
        "load": round(os.getloadavg()[0], 1),
        "check": run(["check", folder / "data"]),
    }
    yield found
    yield found | {"train": run(["train", folder / "data", "--out", folder / "run", *shape, *TINY])}


def run(words: list[str | Path]) -> dict[str, Any]:
    """Run a command of `unetres` and return seconds, peak memory in MB, and when the marked lines came."""
    command = [sys.executable, "-m", "keras_unetres.cli", *map(str, words)]
    start, marks, lines = time.perf_counter(), {}, []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        name = line.split(maxsplit=1)[0] if line.strip() else ""
        if name in MARKS:
            marks[f"seconds_to_{name}"] = round(time.perf_counter() - start, 1)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, words))} ended with {process.returncode}:\n{''.join(lines[-20:])}")
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": round(usage.ru_maxrss / 1024),
        **marks,
    }


def drawn(count: int, side: int) -> Iterator[tuple[str, bytes, bytes]]:
    """Yield (name, image as PNG, mask as PNG) of discs on a shaded, grainy ground."""
    rng = np.random.default_rng(side)
    wide = rng.integers(0, 30, (600, 600, 3), np.uint8)
    for number in range(count):
        y, x = rng.integers(0, 600 - min(side, 512), 2)
        grain = wide[y : y + side, x : x + side]
        times = -(-side // min(grain.shape[:2]))
        mask = Image.new("L", (side, side))
        for _ in range(int(rng.integers(1, 5))):
            x, y, radius = rng.uniform(0, side, 2).tolist() + [rng.uniform(0.08, 0.25) * side]
            ImageDraw.Draw(mask).ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
        there = np.asarray(mask)
        image = np.tile(grain, (times, times, 1))[:side, :side]
        image += (rng.uniform(20, 80) + np.linspace(0, 60, side)).astype(np.uint8)[:, None, None]
        image += there[..., None] * rng.integers(30, 80, 3, np.uint8)
        yield f"{number:06d}", encoded(Image.fromarray(image)), encoded(mask)


def encoded(image: Image.Image) -> bytes:
    """Return an image as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def write_folder(folder: Path, count: int, side: int) -> None:
    """Write a folder of images and one of masks."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for name, image, mask in drawn(count, side):
        (folder / "images" / f"{name}.png").write_bytes(image)
        (folder / "masks" / f"{name}.png").write_bytes(mask)


def write_tar(folder: Path, count: int, side: int) -> None:
    """Write shards as WebDataset has them."""
    folder.mkdir()
    shard = None
    for number, (name, image, mask) in enumerate(drawn(count, side)):
        if number % A_SHARD == 0:
            if shard is not None:
                shard.close()
            shard = tarfile.open(folder / f"shard-{number // A_SHARD:06d}.tar", "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        for ending, data in (("png", image), ("mask.png", mask)):
            member = tarfile.TarInfo(f"{name}.{ending}")
            member.size = len(data)
            shard.addfile(member, io.BytesIO(data))
    if shard is not None:
        shard.close()


def write_parquet(folder: Path, count: int, side: int) -> None:
    """Write shards as Hugging Face's `push_to_hub` does."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    cell = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    features = {name: {"_type": "Image"} for name in ("image", "mask")}
    schema = pa.schema({"image": cell, "mask": cell}).with_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    (folder / "data").mkdir(parents=True)
    shards = -(-count // (10 * A_SHARD))
    rows = drawn(count, side)
    for shard in range(shards):
        file = folder / "data" / f"train-{shard:05d}-of-{shards:05d}.parquet"
        with pq.ParquetWriter(file, schema) as writer:
            left = min(10 * A_SHARD, count - shard * 10 * A_SHARD)
            while left > 0:
                taken = [next(rows) for _ in range(min(A_ROW_GROUP, left))]
                left -= len(taken)
                columns = {
                    "image": [{"bytes": image, "path": f"{name}.png"} for name, image, _ in taken],
                    "mask": [{"bytes": mask, "path": f"{name}.png"} for name, _, mask in taken],
                }
                writer.write_table(pa.table(columns, schema), row_group_size=A_ROW_GROUP)


WRITERS = {"folder": write_folder, "tar": write_tar, "parquet": write_parquet}


if __name__ == "__main__":
    main()
