"""Data: any data set of images and masks, read exactly or refused, and fed to `model.fit` by `tf.data`."""

from .arrays import dataset_from_arrays, dataset_from_tf
from .class_folders import ClassFolders, class_folders_from_arrays, open_class_folders
from .classes import Classes
from .dataset import Dataset, open_dataset
from .declaration import Reading
from .records import Record, Records, read_records
from .sources import Sample

__all__ = [
    "ClassFolders",
    "Classes",
    "Dataset",
    "Reading",
    "Record",
    "Records",
    "Sample",
    "class_folders_from_arrays",
    "dataset_from_arrays",
    "dataset_from_tf",
    "open_class_folders",
    "open_dataset",
    "read_records",
]
