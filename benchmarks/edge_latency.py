"""How well a device's profile foretells the latency of networks: random U-Nets and ResNets, told and timed.

The networks have the graphs of this package's builders (convolutions with ReLU, pooling, transposed convolutions or
bilinear enlargement, concatenation; residual blocks with projections, the mean, a fully connected layer), float32 and
int8, and are written by the runtime, without TensorFlow. Measure on a machine on which nothing else runs:

    python benchmarks/edge_latency.py --count 200
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from unetres_edge.files import write_json
from unetres_edge.latency.estimate import predict_latency
from unetres_edge.latency.measure import measure_profile, time_call
from unetres_edge.latency.profile import Profile
from unetres_edge.latency.writer import NetworkWriter

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Foretell and time, print the table, write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="networks")
    parser.add_argument("--profile", type=Path, help="a profile of this device; None measures one")
    parser.add_argument("--seconds", type=float, default=180, help="for the profile")
    parser.add_argument("--each", type=float, default=2.0, help="seconds for timing a network")
    parser.add_argument("--out", type=Path, default=RESULTS / "edge_latency.json")
    options = parser.parse_args()
    profile = (
        Profile.load_file(options.profile) if options.profile else measure_profile(threads=1, seconds=options.seconds)
    )
    rows = []
    for seed in range(options.count):
        name, data = draw_network(np.random.default_rng(seed))
        told, found = predict_latency(data, profile).ms, time_call(data, profile.threads, options.each)
        rows.append({"network": name, "told_ms": round(told, 4), "ms": round(found, 4)})
        print(f"{name:44} told {told:9.3f} ms, found {found:9.3f} ms  {100 * (told / found - 1):+6.1f} %", flush=True)
    errors = np.array([abs(row["told_ms"] / row["ms"] - 1) for row in rows])
    within = {f"within_{most}_percent": float((errors <= most / 100).mean()) for most in (10, 20, 30)}
    summary = {"count": len(rows), "median_error": round(float(np.median(errors)), 4), **within}
    print(summary)
    write_json(options.out, {"device": profile.device, "threads": profile.threads, **summary, "networks": rows})
    return 0


def draw_network(rng: np.random.Generator) -> tuple[str, bytes]:
    """Return a network and what it is."""
    dtype = str(rng.choice(["float32", "int8"]))
    writer = NetworkWriter(dtype, int(rng.integers(1000)))
    side, taken = int(rng.choice([96, 128, 192, 256])), int(rng.choice([1, 3]))
    source = writer.activation((1, side, side, taken))
    if rng.random() < 0.6:
        filters, depth = int(rng.choice([8, 12, 16, 24, 32])), int(rng.integers(2, 5))
        up, classes = str(rng.choice(["transpose", "bilinear"])), int(rng.choice([2, 3, 12]))
        last = add_unet(writer, source, filters, depth, up, classes)
        name = f"U-Net {side} px, {filters} filters, depth {depth}, {up}, {dtype}"
    else:
        filters, blocks = int(rng.choice([8, 16, 32, 64])), int(rng.integers(1, 4))
        last = add_resnet(writer, source, filters, blocks)
        name = f"ResNet {side} px, {filters} filters, {blocks} blocks, {dtype}"
    return name, writer.to_bytes([source], [last])


def add_unet(writer: NetworkWriter, x: int, filters: int, depth: int, up: str, classes: int) -> int:
    """Add a U-Net (Ronneberger 2015) with padded convolutions; return its scores."""
    skips = []
    for level in range(depth):
        x = writer.conv(writer.conv(x, filters << level), filters << level)
        skips.append(x)
        x = writer.pool(x)
    x = writer.conv(writer.conv(x, filters << depth), filters << depth)
    for level in reversed(range(depth)):
        if up == "transpose":
            x = writer.transpose_conv(x, filters << level)
        else:
            x = writer.conv(writer.resize(x), filters << level)
        x = writer.concatenate(skips[level], x)
        x = writer.conv(writer.conv(x, filters << level), filters << level)
    return writer.conv(x, classes, 1)


def add_resnet(writer: NetworkWriter, x: int, filters: int, blocks: int) -> int:
    """Add a ResNet of basic blocks (He 2015); return its scores."""
    x = writer.pool(writer.conv(x, filters, 7, 2), 3, 2)
    for stage in range(4):
        for block in range(blocks):
            stride, made = (2 if stage and not block else 1), filters << stage
            short = x if stride == 1 and writer.shape(x)[-1] == made else writer.conv(x, made, 1, stride)
            x = writer.join(writer.conv(writer.conv(x, made, 3, stride), made), short)
    return writer.fully_connected(writer.mean(x), 10)


if __name__ == "__main__":
    sys.exit(main())
