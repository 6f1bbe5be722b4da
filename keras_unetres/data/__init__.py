"""Data: any data set of images and masks, read exactly or refused, and fed to `model.fit` by `tf.data`."""

from .arrays import class_folders_from_arrays, dataset_from_arrays, dataset_from_tf
from .classes import Classes
from .dataset import Dataset, open_dataset
from .declaration import Reading
from .records import Record, Records, read_records
from .sources import Sample

__all__ = [
    "Classes",
    "Dataset",
    "Reading",
    "Record",
    "Records",
    "Sample",
    "class_folders_from_arrays",
    "dataset_from_arrays",
    "dataset_from_tf",
    "open_dataset",
    "read_records",
]
