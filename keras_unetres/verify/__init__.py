"""The proof of a model file: it is scored beside the Keras model it came from and passes or is refused."""
