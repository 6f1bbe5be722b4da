"""The receipt of an exported file as one HTML page that opens without a network and runs no script.

A pure function of the receipt's figures and the pictures of the images that lost most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unetres_edge.results.draw import Color

from ..pages.charts import nice_ticks
from ..pages.page import embed_png, escape, make_page
from .receipt import FEW_IMAGES
from .steps import CHANGE_COLORS, Loss

_STYLES = ("report.css", "receipt.css")
_WIDTH, _HEIGHT, _MARGIN = 620, 74, 16  # px of the gauge
_BAR, _BARS = 16, 760  # px: the narrowest bar, and all of them where that leaves them wide enough
_WEAK = 20.0  # dB; a hundredth of the signal's power is noise
_MOST_CLASSES = 40
_RULINGS = {True: ("good", "Passed"), False: ("bad", "Rejected"), None: ("none", "Not scored")}
_FITS = {"yes": "good", "partly": "part", "no": "bad"}
_PIXELATED = 160  # px; smaller pictures are shown with their pixels


def receipt_page(
    figures: Mapping[str, Any], losses: Sequence[Loss], class_names: Sequence[str], class_colors: Sequence[Color]
) -> bytes:
    """Return the page as UTF-8 HTML.

    Args:
        figures: of the receipt, as in its .json.
        losses: the images that lost most, the worst first.
        class_names: one a class.
        class_colors: likewise.
    """
    file = figures["file"]
    title = f"Receipt of {file['name']}"
    about = (
        f"{file['recipe']}, head {file['head']}, input {file['size'][0]} x {file['size'][1]}, "
        f"{file['bytes'] / 1000:,.0f} kB"
    )
    notes = figures["data"].get("notes", [])
    parts = [
        f'<header><h1>{escape(title)}</h1><p class="muted">{escape(about)}</p></header>',
        _ruling(figures),
        *(f'<p class="note">{escape(note)}</p>' for note in notes),
        _steps(figures),
        _classes(figures, class_names, class_colors),
        _losses(figures, losses, class_names, class_colors),
        _mixed(figures),
        _contents(figures),
        _targets(figures),
        _ops(figures),
        _facts(figures),
        f"<h2>Make it again</h2><pre><code>{escape(figures['command'])}</code></pre>",
    ]
    folder = Path(__file__).parents[1] / "pages"
    style = "".join((folder / name).read_text(encoding="utf-8") for name in _STYLES)
    return make_page(title, "\n".join(filter(None, parts)), style=style)


def _ruling(figures: Mapping[str, Any]) -> str:
    kind, word = _RULINGS[figures["verdict"]["passed"]]
    line = figures["verdict"]["line"].removeprefix(f"{word}. ").removeprefix(f"{word}: ")
    return f'<div class="ruling {kind}"><b>{word}</b><span>{escape(line[:1].upper() + line[1:])}</span></div>'


def _steps(figures: Mapping[str, Any]) -> str:
    if not figures["steps"]:
        return ""
    score, rows = figures["gate"]["score"], []
    for place, row in enumerate(figures["steps"]):
        first, device = place == 0, row.get("labels_as_file") is not None
        equal = row["labels_as_file"] if device else row["labels_equal"]
        said = "" if first else f"{100 * equal:.3f} %" + (" as the file" if device else "")
        change = "" if first or row["drop"] is None else _change(-row["drop"])
        around = row["drop_interval"]
        between = f"{_signed(-around[1])} to {_signed(-around[0])}" if around and not first else ""
        counts = ' class="counts"' if not first and not device and row is _counted(figures) else ""
        rows.append(
            f'<tr{counts}><th scope="row">{escape(row["title"])}</th><td class="n big">{_score(row["score"])}</td>'
            f'<td class="n">{change}</td><td class="n">{between}</td><td class="n">{said}</td>'
            f'<td class="n">{_or_nothing(row["kb"], ",.0f")}</td>'
            f'<td class="n">{_or_nothing(row["ms"], ".1f")}</td></tr>'
        )
    head = (
        f'<tr><th>form</th><th class="n">{escape(score)}</th><th class="n">points</th><th class="n">95 %</th>'
        '<th class="n">labels as Keras</th><th class="n">kB</th><th class="n">ms an image</th></tr>'
    )
    number = figures["data"]["num_images"]
    images = f"{number:,} image{'s' * (number != 1)} of the {escape(figures['data']['split'])} part"
    note = (
        f"The same {images} went through every form, by the pre- and post-processing of the device. Points are "
        f"hundredths of {escape(score)} against Keras; their ranges are 95 % paired bootstrap intervals over images."
    )
    if 1 < number < FEW_IMAGES:
        note += f" With so few images ({number}) they are too narrow."
    return (
        f"<h2>Step by step</h2>{_gauge(figures['gate'])}"
        f'<div class="scroll"><table class="steps"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'
        f'<p class="muted">{note}</p>'
    )


def _counted(figures: Mapping[str, Any]) -> Any:
    """Return the row of the file itself."""
    return [row for row in figures["steps"] if row.get("labels_as_file") is None][-1]


def _gauge(gate: Mapping[str, Any]) -> str:
    """Return a line with the loss, its interval and the limit, in points."""
    drop, limit = gate["drop"], gate["max_drop"]
    if drop is None:
        return ""
    low, high = gate["drop_interval"] or (drop, drop)
    left, right = min(low, drop, 0.0), max(high, drop, limit)
    pad = 0.12 * (right - left or 1.0)
    left, right = left - pad, right + pad

    def x(value: float) -> str:
        return f"{_MARGIN + (_WIDTH - 2 * _MARGIN) * (value - left) / (right - left):.1f}"

    y, said = 34, "loses" if drop >= 0 else "gains"
    wide = float(x(limit)) - _MARGIN
    rest = _WIDTH - _MARGIN - float(x(limit))
    parts = [
        f'<svg class="gauge" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="loss against the limit">',
        f'<rect class="zone" x="{_MARGIN}" y="{y - 12}" width="{wide:.1f}" height="24" rx="6"></rect>',
        f'<rect class="over" x="{x(limit)}" y="{y - 12}" width="{rest:.1f}" height="24" rx="6"></rect>',
        f'<line class="axis" x1="{x(0)}" x2="{x(0)}" y1="{y - 16}" y2="{y + 16}"></line>',
        f'<text x="{x(0)}" y="{y + 32}" text-anchor="middle">as Keras</text>',
        f'<line class="limit" x1="{x(limit)}" x2="{x(limit)}" y1="{y - 18}" y2="{y + 16}"></line>',
        f'<text x="{x(limit)}" y="{y + 32}" text-anchor="middle">limit {limit:g}</text>',
        f'<line class="spread" x1="{x(low)}" x2="{x(high)}" y1="{y}" y2="{y}"></line>',
        f'<circle class="at" cx="{x(drop)}" cy="{y}" r="7"></circle>',
        f'<text x="{x(drop)}" y="{y - 20}" text-anchor="middle">{said} {abs(drop):.2f}</text>',
        "</svg>",
    ]
    return "".join(parts)


def _classes(figures: Mapping[str, Any], names: Sequence[str], colors: Sequence[Color]) -> str:
    if not figures["steps"]:
        return ""
    key = "per_class_iou" if "per_class_iou" in figures["steps"][0] else "per_class_accuracy"
    first, last = figures["steps"][0][key], _counted(figures)[key]
    chosen = list(zip(names, colors, strict=True))[:_MOST_CLASSES]
    rows = []
    for name, color in chosen:
        before, after = first[name], last[name]
        change = "" if before is None or after is None else _change(100 * (after - before))
        rows.append(
            f'<tr><th scope="row">{_dot(color)}{escape(name)}</th><td class="n">{_score(before)}</td>'
            f'<td class="n">{_score(after)}</td><td class="n">{change}</td><td>{_bar(after)}</td></tr>'
        )
    said = {"per_class_iou": "IoU", "per_class_accuracy": "accuracy"}[key]
    head = (
        f'<tr><th>class</th><th class="n">{said}, Keras</th><th class="n">{said}, file</th>'
        '<th class="n">points</th><th></th></tr>'
    )
    more = len(names) - len(chosen)
    note = f'<p class="muted">{more} more classes are in the .json.</p>' if more else ""
    return (
        f'<h2>Classes</h2><div class="scroll"><table class="classes"><thead>{head}</thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{note}"
    )


def _losses(figures: Mapping[str, Any], losses: Sequence[Loss], names: Sequence[str], colors: Sequence[Color]) -> str:
    if not figures["images"]:
        return ""
    if not losses:
        return "<h2>Where it differs</h2><p>Nowhere: every pixel of every image has the label that Keras gives it.</p>"
    legend = "".join(f"<span>{_dot(color)}{escape(name)}</span>" for name, color in zip(names, colors, strict=True))
    changes = "".join(f"<span>{_dot(color)}{escape(name)}</span>" for name, color in CHANGE_COLORS.items())
    return (
        f'<h2>Where it differs</h2><p class="legend">{legend}</p><p class="muted">The images that lost most, by the '
        "mIoU of the image alone. The first class is not tinted.</p>"
        f'<p class="legend">{changes}</p>{"".join(map(_loss, losses))}'
    )


def _loss(loss: Loss) -> str:
    height, width = loss.picture.shape[:2]
    place = f"picture{loss.index}"
    box, size = f'viewBox="0 0 {width} {height}" role="img"', f'width="{width}" height="{height}"'
    shared = f'<image id="{place}" {size} href="{embed_png(loss.picture)}"></image>'
    panels = [f'<figure><svg {box} aria-label="image">{shared}</svg><figcaption>image</figcaption></figure>']
    layers = {"truth": loss.truth, "Keras": loss.first, "file": loss.last, "where they differ": loss.changed}
    for title, layer in layers.items():
        over = f'<use href="#{place}"></use><image {size} href="{embed_png(layer)}"></image>'
        panels.append(f'<figure><svg {box} aria-label="{title}">{over}</svg><figcaption>{title}</figcaption></figure>')
    pixels = " pixels" if max(height, width) < _PIXELATED else ""
    said = f"{'loses' if loss.points >= 0 else 'gains'} {abs(loss.points):.2f} points"
    return (
        f'<article class="case"><h3>{escape(loss.name)} <span class="muted">{said}, '
        f"{100 * loss.equal:.2f} % of labels as Keras</span></h3>"
        f'<div class="panels five{pixels}">{"".join(panels)}</div></article>'
    )


def _mixed(figures: Mapping[str, Any]) -> str:
    """Return how the layers that compute in float32 were chosen."""
    mixed = figures.get("mixed")
    if mixed is None:
        return ""
    layers, tried = mixed["layers"], mixed["tried"]
    count = sum(layer["float"] for layer in layers)
    share = 100 * mixed["float_multiply_adds"]
    said = (
        f"{count} of {len(layers)} layers compute in float32, {share:.1f} % of the multiply-adds."
        if count
        else f"None of the {len(layers)} layers has to compute in float32: int8 throughout is within the budget."
    )
    rows = "".join(
        f'<tr><td class="n">{row["floats"]}</td><td>{escape(row["part"])}</td>'
        f'<td class="n">{_change(-row["drop"])}</td></tr>'
        for row in tried
    )
    table = (
        '<table class="tried"><thead><tr><th class="n">layers in float32</th><th>scored on</th>'
        f'<th class="n">points</th></tr></thead><tbody>{rows}</tbody></table>'
    )
    note = (
        "Each bar is the noise in the answer when that layer alone is in int8, along the network; a higher bar is more "
        "noise. Layers went to float32 in the order of this noise over their cost, until the loss held."
    )
    return f'<h2>Precision by layer</h2><p>{said}</p>{_bars(layers)}<p class="muted">{note}</p>{table}'


def _bars(layers: Sequence[Mapping[str, Any]]) -> str:
    """Return the noise of each layer as a bar, the noisiest the highest."""
    known = [layer["noise_db"] for layer in layers if layer["noise_db"] is not None]
    ticks = nice_ticks(min(known, default=0.0), max(known, default=1.0))
    low, high = ticks[0], ticks[-1]
    wide = max(_BAR, min(3 * _BAR, _BARS // max(1, len(layers))))
    width, top, tall = 48 + wide * len(layers) + 60, 10, 160

    def y(db: float) -> float:
        return top + tall * (db - low) / (high - low)

    out = [f'<svg class="bars" viewBox="0 0 {width} {top + tall + 130}" role="img" aria-label="noise of each layer">']
    for tick in ticks:
        out.append(f'<line class="rule" x1="48" x2="{width - 60}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"></line>')
        out.append(f'<text x="42" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g} dB</text>')
    for place, layer in enumerate(layers):
        db, x = layer["noise_db"], 48 + wide * place
        kind, form = ("float", "float32") if layer["float"] else ("whole", "int8")
        tip = f"{layer['layer']}, {form}: " + ("no noise" if db is None else f"{db:.1f} dB")
        start, middle = y(high if db is None else db), x + wide // 2
        out.append(
            f'<rect class="{kind}" x="{x + 2}" y="{start:.1f}" width="{wide - 4}" '
            f'height="{max(1.0, top + tall - start):.1f}" rx="2"><title>{escape(tip)}</title></rect>'
            f'<text transform="translate({middle} {top + tall + 12}) rotate(55)">{escape(layer["layer"])}</text>'
        )
    legend = '<p class="legend"><span class="whole">int8</span><span class="float">float32</span></p>'
    return f'{legend}<div class="scroll">{"".join(out)}</svg></div>'


def _contents(figures: Mapping[str, Any]) -> str:
    found = figures["contents"]
    ops, islands, outside = found["ops"], found["float_islands"], found["outside_xnnpack"]
    whole = sum(op["output"] not in ("FLOAT32", "FLOAT16") for op in ops)
    pieces = found["xnnpack_partitions"]
    tiles = (
        ("ops", f"{len(ops)}", f"{whole} write whole numbers" if whole else "all float"),
        ("float islands", f"{len(islands)}", ", ".join(dict.fromkeys(islands)) or "none"),
        ("XNNPACK pieces", f"{pieces}", "outside: " + (", ".join(dict.fromkeys(outside)) or "nothing")),
        ("weights", _bytes(found["constant_bytes"]), "all constants"),
        ("memory", _bytes(found["arena_bytes"]), "of tensors, by their lifetimes; scratch apart"),
        ("multiply-adds", _count(found["multiply_adds"]), "of one tile"),
    )
    drawn = "".join(
        f'<div class="tile"><div class="label">{escape(title)}</div><div class="value">{escape(value)}</div>'
        f'<div class="muted">{escape(tip)}</div></div>'
        for title, value, tip in tiles
    )
    return f'<h2>What the file is made of</h2><div class="tiles pieces">{drawn}</div>'


def _targets(figures: Mapping[str, Any]) -> str:
    rows = []
    for row in figures["targets"]:
        said = [escape(row["reason"])]
        if row["rules"] and row["rules"]["fits"] != row["fits"]:
            said.append(
                f'<span class="muted">by rules {escape(row["rules"]["fits"])}: {escape(row["rules"]["reason"])}</span>'
            )
        if row["note"]:
            said.append(f'<span class="muted">{escape(row["note"])}</span>')
        rows.append(
            f'<tr><th scope="row">{escape(row["target"])}</th>'
            f'<td><span class="badge {_FITS[row["fits"]]}">{row["fits"]}</span></td>'
            f'<td>{"<br>".join(said)}</td><td class="muted">{escape(row["by"])}</td></tr>'
        )
    head = "<tr><th>target</th><th>runs</th><th>why</th><th>checked by</th></tr>"
    table = f'<table class="targets"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'
    return f'<h2>Where it runs</h2><div class="scroll">{table}</div>'


def _ops(figures: Mapping[str, Any]) -> str:
    noise = figures["noise_db"]
    rows = []
    for op in figures["contents"]["ops"]:
        *fused, layer = op["layers"] or [""]
        types = "".join(f"{kind} " for kind in dict.fromkeys(op["inputs"])) + f"\u2192 {op['output']}"
        before = f'<span class="fused">{escape(" + ".join(fused))} + </span>' if fused else ""
        db = noise.get(layer)
        rows.append(
            f"<tr><td>{escape(op['op'])}</td><td>{before}{escape(layer)}</td><td>{escape(types)}</td>"
            f'<td class="n">{" x ".join(map(str, op["shape"][1:]))}</td>'
            f'<td class="n">{_count(op["multiply_adds"]) if op["multiply_adds"] else ""}</td>'
            f"<td>{_noise(db)}</td><td>{'' if op['xnnpack'] else 'outside'}</td></tr>"
        )
    head = (
        '<tr><th>op</th><th>Keras layers in it</th><th>types</th><th class="n">output</th>'
        '<th class="n">mul-adds</th><th>signal to noise</th><th>XNNPACK</th></tr>'
    )
    note = ""
    if noise:
        note = (
            '<p class="muted">Signal to quantization noise, in dB: the float output of the layer against its error '
            f"in this file, errors of the layers before included. Below {_WEAK:.0f} dB a layer is marked.</p>"
        )
    return (
        f'<h2>Ops</h2><div class="scroll"><table class="ops"><thead>{head}</thead><tbody>{"".join(rows)}</tbody>'
        f"</table></div>{note}"
    )


def _noise(db: float | None) -> str:
    if db is None:
        return ""
    share = min(1.0, max(0.0, db / 50))
    weak = " weak" if db < _WEAK else ""
    return f'<span class="meter{weak}"><i style="width:{100 * share:.0f}%"></i></span>{db:.1f}'


def _facts(figures: Mapping[str, Any]) -> str:
    file, data, calibration = figures["file"], figures["data"], figures["calibration"]
    ends = [
        f"{end['type']} {' x '.join(map(str, end['shape']))}"
        + (f", scale {end['scale']:.6g}, zero point {end['zero_point']}" if end["scale"] else "")
        for end in (*figures["contents"]["inputs"], *figures["contents"]["outputs"])
    ]
    images = (
        {"not scored": data["why_not"]}
        if "why_not" in data
        else {
            "path": data["path"],
            "part": data["split"],
            "images": f"{data['num_images']:,}",
            "fingerprint": data["fingerprint"],
        }
    )
    tables = {
        "File": {
            "SHA-256": file["sha256"],
            "made from": figures["source"],
            "input": ends[0],
            "output": ends[-1],
            "metadata": ", ".join(figures["contents"]["metadata"]),
        },
        "Images it was scored on": images,
        "Calibration": {
            "images": calibration["images"],
            "from": calibration["from"] or "",
            "ranges": calibration["ranges"],
        },
        "Versions": figures["versions"],
    }
    out = []
    for title, rows in tables.items():
        cells = "".join(
            f'<tr><th scope="row">{escape(key)}</th><td>{escape(value)}</td></tr>'
            for key, value in rows.items()
            if value != ""
        )
        out.append(f"<section><h2>{escape(title)}</h2><table>{cells}</table></section>")
    return f'<div class="facts">{"".join(out)}</div>'


def _dot(color: Sequence[int]) -> str:
    return f'<span class="dot" style="background:rgb({",".join(str(int(c)) for c in color)})"></span>'


def _bar(value: float | None) -> str:
    return "" if value is None else f'<span class="meter"><i style="width:{100 * value:.1f}%"></i></span>'


def _change(points: float) -> str:
    """Return a change in points; one that shows as 0.00 has no sign and no colour."""
    if abs(points) < 0.005:
        return "0.00"
    return f'<span class="{"up" if points > 0 else "down"}">{_signed(points)}</span>'


def _signed(points: float) -> str:
    return "0.00" if abs(points) < 0.005 else f"{points:+.2f}".replace("-", "\u2212")


def _score(value: float | None) -> str:
    return "absent" if value is None else f"{value:.4f}"


def _or_nothing(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _bytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1000:,.0f} kB"


def _count(number: int) -> str:
    for scale, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= scale:
            return f"{number / scale:.3g} {letter}"
    return str(number)
