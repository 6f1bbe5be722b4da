"""The machine at hand: what its processor can do, and the log that TensorFlow writes when it looks at it."""
