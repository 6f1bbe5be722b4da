"""The report of a check as one HTML page with its pictures inside, which opens without a network."""

from __future__ import annotations

import base64
import html
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from unetres_edge import draw

from .check import Checkup
from .classes import Classes
from .faults import KINDS, Fault
from .portrait import Portrait

_MOST_ROWS = 200  # of one kind of fault; all of them are in the JSON report
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 1080px; padding: 24px; color: #1c2330;
  background: #fff }
h1 { font-size: 24px; margin: 0 0 4px }
h2 { font-size: 18px; margin: 32px 0 8px }
h3 { font-size: 15px; margin: 16px 0 4px }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; padding: 4px 10px 4px 0; vertical-align: top; border-bottom: 1px solid #e6e9ef }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
code { font: 13px ui-monospace, monospace; background: #f2f4f8; padding: 1px 5px; border-radius: 4px;
  overflow-wrap: anywhere }
.verdict { display: inline-block; padding: 6px 14px; border-radius: 6px; font-weight: 600; margin: 8px 0 }
.good { background: #ddf4e4; color: #11582a }
.bad { background: #fde2e0; color: #8c1d18 }
.grid { display: flex; flex-wrap: wrap; gap: 12px }
figure { margin: 0; width: 160px }
figure img { max-width: 160px; display: block; border-radius: 4px }
figcaption { font-size: 12px; color: #5a6475; overflow-wrap: anywhere }
.bar { background: #eef1f6; height: 12px; width: 220px; border-radius: 3px }
.bar div { height: 12px; border-radius: 3px; min-width: 1px; border: 1px solid rgb(0 0 0 / 25%);
  box-sizing: border-box }
a { color: inherit }
.muted { color: #5a6475 }
@media (prefers-color-scheme: dark) {
  body { background: #14181f; color: #dde3ec }
  td, th { border-color: #2a313c }
  code, .bar { background: #232a35 }
  .good { background: #173d25; color: #b6ecc6 }
  .bad { background: #4a1d1b; color: #ffc9c5 }
  .muted, figcaption { color: #98a3b5 }
}
"""


def check_page(found: Checkup) -> str:
    """Return the page of a check."""
    report = found.to_dict()
    title = f"Check of {report['data'] or 'a data set'}"
    count = len(found.faults)
    verdict = f"{count} fault{'s' * (count != 1)}" if count else "no faults"
    body = [
        f"<h1>{_text(title)}</h1>",
        f"<p class=muted>{_text(_summary(report))}</p>",
        f"<p><span class='verdict {'bad' if count else 'good'}'>{verdict}, {len(found.warnings)} warnings</span></p>",
        *(f"<p class=muted>{_text(note)}</p>" for note in report["notes"] if note),
        _contents([*found.faults, *found.warnings]),
        _findings("Faults", found.faults, found),
        _findings("Warnings", found.warnings, found),
        _class_table(found, report),
        _gallery(found),
        f"<p class=muted>{_text(report['hashes'])}</p>" if report["hashes"] else "",
    ]
    head = f"<meta charset=utf-8><meta name=viewport content='width=device-width'><title>{_text(title)}</title>"
    return (
        f"<!doctype html><html lang=en><head>{head}<style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _text(value: object) -> str:
    return html.escape(str(value)).encode("utf-8", "replace").decode()


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
        out.append(f"<h3 id={kind}>{_text(KINDS[kind])} <span class=muted>({kind}, {len(rows)})</span></h3><table>")
        out.append("<tr><th><th>file<th>found<th>expected<th>fix</tr>")
        for fault in rows[:_MOST_ROWS]:
            portrait = pictures.get(found.excusable.get(fault, "")) or pictures.get(fault.file.rpartition("/")[2])
            picture = _image(portrait.picture, 56) if portrait is not None and portrait.picture is not None else ""
            cells = [
                picture,
                *map(_text, (fault.file, fault.found, fault.expected)),
                f"<code>{_text(fault.fix)}</code>",
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
    out.append("<th class=n>images<th>" + "<th>".join(f"images in {_text(part)}" for part in report["parts"]) + "</tr>")
    for row, color in zip(report["classes"], found.classes.colors, strict=True):
        bar = f"<div class=bar><div style='width:{100 * row['share']:.2f}%;background:rgb{tuple(color)}'></div></div>"
        cells = [f"<td class=n>{row['id']}<td>{_text(row['name'])}<td>{bar}<td class=n>{100 * row['share']:.3f} %"]
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
        out.append(f"<figure>{_image(picture, 160)}<figcaption>{_text(caption)}</figcaption></figure>")
    return "".join(out) + "</div>"


def _overlay(portrait: Portrait, classes: Classes | None) -> np.ndarray:
    assert portrait.picture is not None and portrait.mask is not None
    known = classes is not None and (classes.values is None or set(np.unique(portrait.mask)) <= set(classes.values))
    if classes is None or not known:
        return portrait.picture
    return draw.overlay(portrait.picture, classes.ids(portrait.mask), classes.colors)


def _image(picture: np.ndarray, width: int) -> str:
    data = base64.b64encode(draw.encode_png(picture)).decode()
    return f"<img alt='' width={min(width, picture.shape[1])} src='data:image/png;base64,{data}'>"
