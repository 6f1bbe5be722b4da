"""segmentation_models.pytorch: U-Net on an encoder without pretraining, by the settings of its examples."""

from __future__ import annotations

from _job import read_job, report, use_threads, write_maps

job = read_job()
use_threads(job)

from _torch import IGNORE, cross_entropy, example, onnx_row, run_torch, segmenter, train  # noqa: E402

# isort: split
import segmentation_models_pytorch as smp  # noqa: E402
import torch  # noqa: E402

RATE, MULTIPLE = 1e-3, 32

torch.manual_seed(job.seed)
model = smp.Unet(job.options["encoder"], encoder_weights=None, in_channels=job.channels, classes=len(job.classes))
dice = smp.losses.DiceLoss("multiclass", ignore_index=IGNORE)
figures = train(model, lambda logits, labels: dice(logits, labels) + cross_entropy(logits, labels), job, RATE)
write_maps(job, "float", segmenter(run_torch(model), MULTIPLE))
file = job.out / "model.onnx"
sides = {2: "height", 3: "width"}
torch.onnx.export(  # as its example examples/convert_to_onnx.ipynb
    model, (example(job),), str(file), input_names=["input"], dynamic_axes={"input": sides}, dynamo=False
)
report(
    job,
    ("segmentation-models-pytorch", "torch", "onnxruntime"),
    **figures,
    settings=f"Unet {job.options['encoder']} from scratch, crops of 256 px, flips, batch 8, Dice and cross-entropy, "
    f"Adam {RATE:g} by a cosine",
    files=[onnx_row(job, file, MULTIPLE)],
    no_int8="it has no int8 export of its own",
)
