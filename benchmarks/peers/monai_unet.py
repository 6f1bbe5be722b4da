"""MONAI: FlexibleUNet on EfficientNet-B0 without pretraining, or DynUNet; sliding windows, as in its 2D tutorial."""

from __future__ import annotations

from _job import BATCH, CROP, read_job, report, use_threads, write_maps

job = read_job()
use_threads(job)

from _torch import IGNORE, cross_entropy, example, onnx_row, run_torch, segmenter, train  # noqa: E402

# isort: split
import torch  # noqa: E402
from monai.inferers import sliding_window_inference  # noqa: E402
from monai.losses import DiceLoss  # noqa: E402
from monai.networks import convert_to_onnx  # noqa: E402
from monai.networks.nets import DynUNet, FlexibleUNet  # noqa: E402

RATE, BACKBONE, LEVELS = 1e-3, "efficientnet-b0", 5
MULTIPLE = 2**LEVELS


class Windows(torch.nn.Module):
    """The network in overlapping windows, as MONAI's tutorials segment pictures."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return sliding_window_inference(images, (CROP, CROP), 4, self.network)


def dynunet(channels: int, classes: int) -> torch.nn.Module:
    """Return MONAI's form of nnU-Net's 2D network, with its own numbers of filters and InstanceNorm."""
    kernels, strides = [3] * (LEVELS + 1), [1] + [2] * LEVELS
    return DynUNet(2, channels, classes, kernels, strides, strides[1:], norm_name="instance")


torch.manual_seed(job.seed)
dice = DiceLoss(to_onehot_y=True, softmax=True, ignore_index=IGNORE)
if job.options["network"] == "DynUNet":
    model, name = dynunet(job.channels, len(job.classes)), "DynUNet of six levels"
else:
    model, name = FlexibleUNet(job.channels, len(job.classes), BACKBONE, pretrained=False), f"FlexibleUNet {BACKBONE}"
figures = train(model, lambda logits, labels: dice(logits, labels[:, None]) + cross_entropy(logits, labels), job, RATE)
write_maps(job, "float", segmenter(run_torch(Windows(model)), 1))
for module in model.modules():
    if hasattr(module, "set_swish"):
        module.set_swish(memory_efficient=False)  # as MONAI asks for where a network is exported
file = job.out / "model.onnx"
sides = {2: "height", 3: "width"}
convert_to_onnx(
    model,
    [example(job)],
    input_names=["input"],
    output_names=["output"],
    dynamic_axes={"input": sides, "output": sides},
    filename=str(file),
    dynamo=False,
)
report(
    job,
    ("monai", "torch", "onnxruntime"),
    **figures,
    settings=f"{name} from scratch, crops of {CROP} px, flips, batch {BATCH}, Dice and cross-entropy, "
    f"Adam {RATE:g} by a cosine, sliding windows",
    files=[onnx_row(job, file, MULTIPLE)],
    no_int8="its int8 is of TensorRT, on a GPU",
)
