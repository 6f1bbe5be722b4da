"""Pictures of formats that are not read, in the folders of those that are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from unetres_edge.errors import Fix
from unetres_edge.images.decode import IMAGE_SUFFIXES

from ..data.findings import Finding, Where, relative
from .summaries import DatasetSummary

_PICTURES = ".avif .exr .hdr .heic .heif .j2k .jfif .jp2 .jpe .jxl .pam .pbm .pfm .psd .svg .tga"
_OF_CAMERAS = ".arw .cr2 .cr3 .dng .nef .orf .raw .rw2"
_OF_MICROSCOPES = ".czi .lif .lsm .mrc .mrxs .nd2 .ndpi .oib .oif .scn .svs .vsi"
_OF_CLINICS = ".dcm .dicom .mha .mhd .nii .nrrd"
_ARRAYS = ".h5 .hdf5 .mat .npy .npz"
_NOT_READ = frozenset(" ".join((_PICTURES, _OF_CAMERAS, _OF_MICROSCOPES, _OF_CLINICS, _ARRAYS)).split())


def find_unread_files(summary: DatasetSummary) -> Iterator[Finding]:
    """Yield a warning for each folder of images or masks and each ending in it that is passed over."""
    base = summary.dataset.base
    sources = [source for image in summary.images for source in (image.sample.image, image.sample.target)]
    for folder in sorted({source.file.parent for source in sources if source.file.suffix.lower() in IMAGE_SUFFIXES}):
        passed_over: dict[str, list[Path]] = defaultdict(list)
        for path in folder.iterdir() if folder.is_dir() else ():
            ending = ".nii" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()
            if ending in _NOT_READ and not path.name.startswith("."):
                passed_over[ending].append(path)
        for ending, files in sorted(passed_over.items()):
            figures = {"count": len(files), "ending": ending, "example": min(files).name}
            figures["endings"] = " ".join(IMAGE_SUFFIXES)
            fix = Fix("convert them to PNG or TIFF, or move them away")
            yield Finding("unread-file", Where(relative(folder, base)), figures, fix)
