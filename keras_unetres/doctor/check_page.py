"""The report of a check as one HTML page with its pictures inside, which opens without a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from unetres_edge.results import draw

from ..data.classes import Classes
from ..data.faults import KINDS, Fault
from ..pages.page import embed_png, escape, make_page
from .check import Checkup
from .portrait import Portrait

_MOST_ROWS = 200  # of one kind of fault; all of them are in the JSON report
_STYLE = "figure { width: 160px }\nfigure img { max-width: 160px; display: block; border-radius: 4px }\n"


def check_page(found: Checkup) -> bytes:
    """Return the page of a check."""
    report = found.to_dict()
    title = f"Check of {report['data'] or 'a data set'}"
    count = len(found.faults)
    verdict = f"{count} fault{'s' * (count != 1)}" if count else "no faults"
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p class=muted>{escape(_summary(report))}</p>",
        f"<p><span class='verdict {'bad' if count else 'good'}'>{verdict}, {len(found.warnings)} warnings</span></p>",
        *(f"<p class=muted>{escape(note)}</p>" for note in report["notes"] if note),
        _contents([*found.faults, *found.warnings]),
        _findings("Faults", found.faults, found),
        _findings("Warnings", found.warnings, found),
        _class_table(found, report),
        _gallery(found),
        f"<p class=muted>{escape(report['hashes'])}</p>" if report["hashes"] else "",
    ]
    return make_page(title, "".join(body), style=_STYLE)


def _summary(report: dict[str, Any]) -> str:
    parts = ", ".join(f"{n} {name}" for name, n in report["parts"].items())
    sizes = [f"{row['width']} x {row['height']}" for row in report["sizes"]]
    modes = ", ".join(f"{n} {mode}" for mode, n in report["modes"].items())
    shown = ", ".join(sizes[:4]) + (f" and {len(sizes) - 4} more sizes" if len(sizes) > 4 else "")
    return " · ".join(filter(None, [f"format {report['format']}", parts, shown, modes]))


def _contents(faults: Sequence[Fault]) -> str:
    """Return the kinds with their numbers, each a link to its table."""
    counts = Counter(fault.kind for fault in faults)
    links = (f"<a href='#{kind}'>{kind}</a> {count}" for kind, count in counts.items())
    return f"<p>{' · '.join(links)}</p>" if len(counts) > 1 else ""


def _findings(title: str, faults: Sequence[Fault], found: Checkup) -> str:
    if not faults:
        return ""
    pictures = {portrait.sample.name: portrait for portrait in found.portraits if portrait.picture is not None}
    out = [f"<h2>{title}</h2>"]
    for kind, group in groupby(sorted(faults, key=lambda fault: fault.kind), key=lambda fault: fault.kind):
        rows = list(group)
        out.append(f"<h3 id={kind}>{escape(KINDS[kind])} <span class=muted>({kind}, {len(rows)})</span></h3><table>")
        out.append("<tr><th><th>file<th>found<th>expected<th>fix</tr>")
        for fault in rows[:_MOST_ROWS]:
            portrait = pictures.get(found.excusable.get(fault, "")) or pictures.get(fault.file.rpartition("/")[2])
            picture = _image(portrait.picture, 56) if portrait is not None and portrait.picture is not None else ""
            cells = [
                picture,
                *map(escape, (fault.file, fault.found, fault.expected)),
                f"<code>{escape(fault.fix)}</code>",
            ]
            out.append("<tr>" + "".join(f"<td>{cell}" for cell in cells) + "</tr>")
        if len(rows) > _MOST_ROWS:
            out.append(f"<tr><td colspan=5 class=muted>and {len(rows) - _MOST_ROWS} more, in the JSON report</tr>")
        out.append("</table>")
    return "".join(out)


def _class_table(found: Checkup, report: dict[str, Any]) -> str:
    if found.classes is None:
        return ""
    out = [
        "<h2>Classes</h2><table><tr><th class=n>id<th>name<th>share of labelled pixels<th class=n><th class=n>pixels"
    ]
    out.append(
        "<th class=n>images<th>" + "<th>".join(f"images in {escape(part)}" for part in report["parts"]) + "</tr>"
    )
    for row, color in zip(report["classes"], found.classes.colors, strict=True):
        bar = f"<div class=bar><div style='width:{100 * row['share']:.2f}%;background:rgb{tuple(color)}'></div></div>"
        cells = [f"<td class=n>{row['id']}<td>{escape(row['name'])}<td>{bar}<td class=n>{100 * row['share']:.3f} %"]
        cells.append(f"<td class=n>{row['pixels']:,}<td class=n>{row['images']:,}")
        cells += [f"<td class=n>{row['parts'].get(part, {'images': 0})['images']:,}" for part in report["parts"]]
        out.append("<tr>" + "".join(cells) + "</tr>")
    ignored = report["ignored_share"]
    return "".join(out) + "</table>" + (f"<p class=muted>{100 * ignored:.3f} % not labelled</p>" if ignored else "")


def _gallery(found: Checkup) -> str:
    """Return pictures with their masks, spread evenly over the samples."""
    seen = [p for p in found.portraits if p.picture is not None and p.mask is not None]
    if not seen:
        return ""
    out = ["<h2>Pictures with their masks</h2><div class=grid>"]
    for portrait in seen:
        picture = _overlay(portrait, found.classes)
        caption = f"{portrait.sample.name} ({portrait.part})"
        out.append(f"<figure>{_image(picture, 160)}<figcaption>{escape(caption)}</figcaption></figure>")
    return "".join(out) + "</div>"


def _overlay(portrait: Portrait, classes: Classes | None) -> np.ndarray:
    assert portrait.picture is not None and portrait.mask is not None
    known = classes is not None and (classes.values is None or set(np.unique(portrait.mask)) <= set(classes.values))
    if classes is None or not known:
        return portrait.picture
    return draw.overlay(portrait.picture, classes.ids(portrait.mask), classes.colors)


def _image(picture: np.ndarray, width: int) -> str:
    return f"<img alt='' width={min(width, picture.shape[1])} src='{embed_png(picture)}'>"
