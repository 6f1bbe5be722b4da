"""Data: folders of images and masks, read exactly or refused, and fed to `model.fit` by `tf.data`."""

from .dataset import Dataset, Pair, Reading, open_dataset
from .records import Records, read_records

__all__ = ["Dataset", "Pair", "Reading", "Records", "open_dataset", "read_records"]
