"""nnU-Net v2: its 2D configuration on a CPU, its own planning, a trainer that ends by the clock, its own prediction."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from _job import IGNORE, Clock, Job, read_job, report, use_threads, write_maps
from PIL import Image

ID, NAME, PLANS, GIGABYTES = 1, "Dataset001_peers", "nnUNetPlans", 2
ROOMS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


def main() -> None:
    """Plan, train, segment. (Workers import this file again, so nothing happens outside of here.)"""
    job = read_job()
    use_threads(job)
    for room in ROOMS:
        os.environ[room] = str(job.out / room)
    os.environ |= {"nnUNet_n_proc_DA": str(job.threads), "nnUNet_def_n_proc": str(job.threads)}
    import _torch  # noqa: F401
    import torch
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    class ByTheClock(nnUNetTrainer):
        """Steps until the minutes are over; the learning rate falls over them as it does over epochs."""

        steps, seconds = 0, 0.0

        def run_training(self) -> None:
            self.disable_checkpointing = True
            self.on_train_start()
            self.on_train_epoch_start()
            clock = Clock(job.minutes)
            while clock.share() < 1:
                for group in self.optimizer.param_groups:
                    group["lr"] = self.initial_lr * (1 - min(1.0, clock.share())) ** 0.9
                self.train_step(next(self.dataloader_train))
                self.steps += 1
            self.seconds = clock.passed()
            self.on_train_end()

    torch.manual_seed(job.seed)
    np.random.seed(job.seed)  # noqa: NPY002 (nnU-Net draws from it)
    torch.set_num_threads(job.threads)
    names = write_dataset(job)
    extract_fingerprints([ID], num_processes=job.threads, verbose=False)
    plan_experiments([ID], gpu_memory_target_in_gb=GIGABYTES)
    preprocess([ID], PLANS, ["2d"], [job.threads])
    folder = job.out / "nnUNet_preprocessed" / NAME
    (folder / "splits_final.json").write_text(json.dumps([names]))
    plans, dataset = (json.loads((folder / file).read_text()) for file in (f"{PLANS}.json", "dataset.json"))
    plans["continue_training"] = False  # as its own command tells the trainer
    trainer = ByTheClock(plans, "2d", 0, dataset, torch.device("cpu"))
    trainer.initialize()
    trainer.run_training()
    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [trainer.network.state_dict()],
        dataset,
        type(trainer).__name__,
        trainer.inference_allowed_mirroring_axes,
    )

    def segment(image: np.ndarray) -> np.ndarray:
        """Give the class map of a picture, as nnU-Net's reader of pictures hands it on."""
        array = image.transpose(2, 0, 1)[:, None].astype(np.float32)
        return np.asarray(predictor.predict_single_npy_array(array, {"spacing": (999, 1, 1)})).squeeze()

    write_maps(job, "float", segment)
    plan = trainer.configuration_manager
    report(
        job,
        ("nnunetv2", "torch"),
        seconds=round(trainer.seconds, 1),
        steps=trainer.steps,
        parameters=sum(parameter.numel() for parameter in trainer.network.parameters()),
        settings=f"2d, planned for {GIGABYTES} GB: patches of {'x'.join(map(str, plan.patch_size))} px, batch "
        f"{plan.batch_size}; the rest as it comes, mirrored prediction too; preparation is not in the minutes",
        files=[],
        no_file="it exports none",
    )


def write_dataset(job: Job) -> dict[str, list[str]]:
    """Write the pictures and masks as nnU-Net wants them; return the names of each part."""
    root = job.out / "nnUNet_raw" / NAME
    names: dict[str, list[str]] = {"train": [], "val": []}
    for room in ROOMS[1:]:
        (job.out / room).mkdir(parents=True, exist_ok=True)
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    ignored = False
    for part, found in names.items():
        for index, (image, mask) in enumerate(job.pairs(part)):
            name = f"{part}_{index:04}"
            found.append(name)
            ignored |= bool((mask == IGNORE).any())
            labels = np.where(mask == IGNORE, len(job.classes), mask).astype(np.uint8)
            Image.fromarray(image.squeeze()).save(root / "imagesTr" / f"{name}_0000.png")
            Image.fromarray(labels).save(root / "labelsTr" / f"{name}.png")
    labels_told = {name if number else "background": number for number, name in enumerate(job.classes)}
    told: dict[str, Any] = {
        "channel_names": {str(i): name for i, name in enumerate("RGB" if job.channels == 3 else ["grey"])},
        "labels": labels_told | ({"ignore": len(job.classes)} if ignored else {}),
        "numTraining": sum(map(len, names.values())),
        "file_ending": ".png",
    }
    (Path(root) / "dataset.json").write_text(json.dumps(told))
    return names


if __name__ == "__main__":
    main()
