"""What needs tensorflow-model-optimization: its engine of quantization-aware training, pruning and clustering."""
