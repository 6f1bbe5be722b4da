"""Files that hold pictures in a format that is not read, told by their endings, or without one by their first bytes."""

from __future__ import annotations

import re
from pathlib import Path

from .decode import IMAGE_SUFFIXES

_PICTURES = ".apng .avif .exr .hdr .heic .heif .ico .j2k .jfif .jp2 .jpe .jxl .mpo .pam .pbm .pfm .psd .svg .tga"
_OF_CAMERAS = ".arw .cr2 .cr3 .dng .nef .orf .raf .raw .rw2"
_OF_MICROSCOPES = ".czi .ims .lif .lsm .mrc .mrxs .nd2 .ndpi .oib .oif .qptiff .scn .stk .svs .vsi .zarr"
_OF_CLINICS = ".dcm .dicom .img .mha .mhd .nii .nrrd"
_OF_THE_EARTH = ".ecw .geotiff .gtiff .sid .vrt"
_OF_TELESCOPES = ".fit .fits .fts"
_ARRAYS = ".h5 .hdf5 .lmdb .mat .mdb .npy .npz .pickle .pkl .tfrecord .tfrecords"
_FILMS = ".avi .m4v .mkv .mov .mp4 .mpeg .mpg .webm"
UNREAD_SUFFIXES = frozenset(
    " ".join(
        (_PICTURES, _OF_CAMERAS, _OF_MICROSCOPES, _OF_CLINICS, _OF_THE_EARTH, _OF_TELESCOPES, _ARRAYS, _FILMS)
    ).split()
)
_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,7}")  # others are part of a name, such as cell.0001
_MAGIC = re.compile(
    rb"\x89PNG|\xff\xd8\xff|II[*+]\0|MM\0[*+]|GIF8|BM....\0\0\0\0|....ftyp(?:hei|mif|avi)|RIFF....WEBP", re.DOTALL
)


def unread_ending(file: Path) -> str:
    """Return the ending that says what a file is, in small letters; "" where it has none."""
    if file.name.lower().endswith(".nii.gz"):
        return ".nii"
    return file.suffix.lower() if _ENDING.fullmatch(file.suffix) else ""


def is_unread(file: Path) -> bool:
    """Return whether a file is a picture, a film or an array of a format that is not read."""
    ending = unread_ending(file)
    if ending in IMAGE_SUFFIXES or file.name.startswith("."):
        return False
    if ending:
        return ending in UNREAD_SUFFIXES
    if not file.is_file():  # a pipe may have no other end
        return False
    try:
        with file.open("rb") as stream:
            return _MAGIC.match(stream.read(16)) is not None
    except OSError:
        return False
