"""Ways to quantize while training: engines of fake quantization, and methods that find ranges of activations."""

ENGINES = ("native", "tfmot")  # inside Keras 3, or by tensorflow-model-optimization
RANGE_METHODS = ("minmax", "percentile", "mse")
