"""What can be chosen by name: recipes, heads of files, encoders, losses. Tables and their checks, without Keras.

So a wrong name is refused before Keras or TensorFlow is imported. What a name stands for is built elsewhere: networks
in `models`, losses in `training`, files in `tflite`.
"""
