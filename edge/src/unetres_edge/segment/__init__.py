"""From an engine for one tile to class maps of images of any size."""
