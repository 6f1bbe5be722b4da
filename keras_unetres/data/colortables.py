"""Tables from colour to class: those that data sets bring along, and those of PASCAL VOC and CamVid."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from unetres_edge.errors import DataError

from .tables import read_text, rows_of

Color = tuple[int, int, int]
CSV_TABLES = ("class_dict.csv", "label_class_dict.csv")
_IGNORED = {"ignored", "ignore", "void", "_ignore_", "__ignore__", "unlabelled", "unlabeled"}

_VOC = (
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person "
    "pottedplant sheep sofa train tvmonitor"
)
VOC_NAMES = tuple(_VOC.split(" "))

# Brostow 2009, the 32 classes of CamVid, in the order of its label_colors.txt.
_CAMVID = (
    "Animal 64 128 64|Archway 192 0 128|Bicyclist 0 128 192|Bridge 0 128 64|Building 128 0 0|Car 64 0 128|"
    "CartLuggagePram 64 0 192|Child 192 128 64|Column_Pole 192 192 128|Fence 64 64 128|LaneMkgsDriv 128 0 192|"
    "LaneMkgsNonDriv 192 0 64|Misc_Text 128 128 64|MotorcycleScooter 192 0 192|OtherMoving 128 64 64|"
    "ParkingBlock 64 192 128|Pedestrian 64 64 0|Road 128 64 128|RoadShoulder 128 128 192|Sidewalk 0 0 192|"
    "SignSymbol 192 128 128|Sky 128 128 128|SUVPickupTruck 64 128 192|TrafficCone 0 0 64|TrafficLight 0 64 64|"
    "Train 192 64 128|Tree 128 128 0|Truck_Bus 192 128 192|Tunnel 64 0 64|VegetationMisc 192 192 0|Void 0 0 0|"
    "Wall 64 192 0"
)


@dataclass(frozen=True)
class ColorTable:
    """Class names with their colours, and the colours that mean "not labelled".

    Args:
        names: names of the classes, by id.
        colors: likewise.
        ignored: colours that are not labelled.
        rows: all colours in the order of the file, which is what masks of numbers count.
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...]
    ignored: tuple[Color, ...]
    rows: tuple[Color, ...]

    def values(self, ignore: int) -> dict[int, int]:
        """Return packed colour -> class id, or `ignore`."""
        class_ids = {pack(color): i for i, color in enumerate(self.colors)}
        return class_ids | {pack(color): ignore for color in self.ignored}

    def levels(self, ignore: int) -> dict[int, int] | None:
        """Return number in a mask without colours -> class id, or `ignore`; None where the numbers are class ids.

        Where all colours are grey, the numbers are their levels, else the rows of the table.
        """
        values = self.values(ignore)
        if all(red == green == blue for red, green, blue in self.rows):
            return {color[0]: values[pack(color)] for color in self.rows}
        by_row = {row: values[pack(color)] for row, color in enumerate(self.rows)}
        if list(by_row.values())[: len(self.names)] == list(range(len(self.names))):
            return None  # only rows behind the classes are ignored
        return by_row | {ignore: ignore}


def pack(color: Color) -> int:
    """Return red << 16 | green << 8 | blue."""
    return color[0] << 16 | color[1] << 8 | color[2]


def unpack(packed: int) -> Color:
    """Return (red, green, blue) of red << 16 | green << 8 | blue."""
    return packed >> 16, packed >> 8 & 255, packed & 255


def voc_color(index: int) -> Color:
    """Return the colour of a class in the palette of PASCAL VOC: the bits of the index, spread over three channels."""
    channels = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            channels[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
    return channels[0], channels[1], channels[2]


def voc_table() -> ColorTable:
    """Return PASCAL VOC's 21 classes; its border colour is ignored."""
    colors = tuple(map(voc_color, range(len(VOC_NAMES))))
    return ColorTable(VOC_NAMES, colors, (voc_color(255),), colors)


def camvid_table() -> ColorTable:
    """Return CamVid's classes (Brostow 2009) without Void, which is ignored."""
    return _table(_line(part, r"(\S+) (\d+) (\d+) (\d+)", "name", Path()) for part in _CAMVID.split("|"))


def find_table(base: Path) -> ColorTable | None:
    """Read `label_colors.txt`, `labelmap.txt` or `class_dict.csv` in a folder, or return None if there is none.

    Classes named void, ignored or the like are ignored colours.

    Raises:
        DataError: a line that is not understood, or two classes of one colour or name.
    """
    n = r"(\d{1,3})"
    for name, pattern, order in (
        ("label_colors.txt", rf"{n}[\s,]+{n}[\s,]+{n}[\s,]+(.+)", "color"),
        ("labelmap.txt", rf"([^:]+):\s*{n},\s*{n},\s*{n}\s*(?::.*)?", "name"),
    ):
        file = base / name
        if file.is_file():
            lines = [line for line in _text(file).splitlines() if line.strip() and not line.startswith("#")]
            return _check(_table(_line(line, pattern, order, file) for line in lines), file)
    named = next((table for name in CSV_TABLES if (table := base / name).is_file()), None)
    return None if named is None else _check(_table(_csv_rows(named)), named)


def find_value_names(base: Path) -> tuple[tuple[str, ...], dict[int, int] | None] | None:
    """Return class names, and stored value -> class id (None where the values are the ids), of a `_classes.csv`.

    Its lines are `value, name`, below one that says so. None where there is no such file.

    Raises:
        DataError: other lines.
    """
    file = base / "_classes.csv"
    if not file.is_file():
        return None
    rows = [[cell.strip() for cell in row] for row in rows_of(_text(file).splitlines()) if any(row)]
    rows = rows[1:] if rows and not rows[0][0].isdigit() else rows
    if not rows or any(len(row) != 2 or not row[0].isdigit() for row in rows):
        raise DataError("not a table of classes", file=file, expected="Pixel Value, Class lines")
    values = {int(value): class_id for class_id, (value, _) in enumerate(rows)}
    are_ids = list(values) == list(values.values())
    return tuple(name for _, name in rows), None if are_ids else values


def _csv_rows(file: Path) -> list[tuple[str, Color]]:
    """Return the rows of a table `name,r,g,b`, with or without a line that says so."""
    try:
        rows = [[cell.strip() for cell in row] for row in rows_of(_text(file).splitlines()) if any(row)]
        if rows and [cell[:1].lower() for cell in rows[0][1:4]] == ["r", "g", "b"]:
            rows = rows[1:]
        return [(row[0], (int(row[1]), int(row[2]), int(row[3]))) for row in rows]
    except (IndexError, ValueError, csv.Error) as error:
        raise DataError("not a table of colours", file=file, expected="name,r,g,b lines") from error


def _text(file: Path) -> str:
    try:
        return read_text(file)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read: {error}", file=file, fix="save it as text in UTF-8") from error


def _line(line: str, pattern: str, first: str, file: Path) -> tuple[str, Color]:
    match = re.fullmatch(pattern, line.strip())
    if match is None:
        raise DataError("a line is no class with a colour", file=file, found=line.strip())
    parts = match.groups()
    name, color = (parts[3], parts[:3]) if first == "color" else (parts[0], parts[1:])
    return name.strip(), (int(color[0]), int(color[1]), int(color[2]))


def _table(rows: Iterable[tuple[str, Color]]) -> ColorTable:
    kept: list[tuple[str, Color]] = []
    ignored: list[tuple[str, Color]] = []
    order = []
    for name, color in rows:
        order.append(color)
        (ignored if name.lower() in _IGNORED else kept).append((name, color))
    return ColorTable(tuple(n for n, _ in kept), tuple(c for _, c in kept), tuple(c for _, c in ignored), tuple(order))


def _check(table: ColorTable, file: Path) -> ColorTable:
    colors = (*table.colors, *table.ignored)
    if any(max(color) > 255 or min(color) < 0 for color in colors):
        raise DataError("colours are wrong", file=file, expected="each 0..255")
    for what, values in (("colours", colors), ("names", table.names)):
        twice = sorted({str(value) for value in values if values.count(value) > 1})
        if twice:
            raise DataError(f"classes share {what}", file=file, found=", ".join(twice))
    return table
