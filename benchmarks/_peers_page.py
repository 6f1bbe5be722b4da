"""The page of results/peers.json: who is ahead, what goes on a device, who is left out, how to run it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

from unetres_edge.files import write_bytes

OURS = "keras-unetres"
Rows = list[dict[str, Any]]

_HEAD = """# Beside other tools

What you would take instead, on the same machine, with the same minutes, pictures and parts, and one count of the
pixels for all. Each tool trains by the settings of its makers until the minutes are over, and downloads nothing: it
starts from weights only where they come with its installation, as ours do for photographs, and the row says so. It is
scored on pictures that no tool saw: its network in floats, and the file that its own export makes for a device.
"""

_HOW = """
## Run it

<!-- not run: it makes environments, and trains for hours -->
```sh
export UNETRES_DATA=/path/to/sets
python benchmarks/peers.py --environments /tmp/peers --runs /tmp/peers_runs --minutes 10
python benchmarks/peers.py --environments /tmp/peers --runs /tmp/peers_runs --minutes 25
```

The first run makes an environment for each tool, about 1 GB each where pip finds builds for the CPU
(`PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu`). Every set and tool takes its minutes once, and some more
for preparing, exporting and scoring. A row is kept when it is there, and replaced when it is run again: name the sets
and `--tools` that are missing. Nothing else should run beside it.

The parts of a set are made once, below `--runs`: of isbi2012 a block of slices is held out, of camvid its makers' test
part, of the others a seeded 15 %. Masks that number objects are scored as object or background; ours learns from them
to part what touches, which this score does not ask for. `--seeds 3` trains three times and shows the range.
"""

_NONE = """
## No figures yet

Nothing has been measured on a quiet machine yet. The commands below do it, and write this page.
"""


def write_page(results: dict[str, Any], file: Path) -> None:
    """Write the page of what was found."""
    write_bytes(file, make_page(results).encode())


def make_page(results: dict[str, Any]) -> str:
    """Return the page as Markdown."""
    rows: Rows = results["rows"]
    parts = [_HEAD, *(_of_minutes(rows, minutes) for minutes in _values(rows, "minutes"))]
    parts += [_settings(rows) if rows else _NONE]
    if results["left_out"]:
        parts.append(
            "\n## Left out\n\n" + "".join(f"- {_named(said)}: {said['reason']}\n" for said in results["left_out"])
        )
    if rows:
        machine, threads = results["machine"], sorted({row["threads"] for row in rows})
        had = " or ".join(map(str, threads))
        parts.append(f"\nMeasured with {had} of {machine['cores']} cores ({machine['processor']}) for each tool.\n")
    return "".join([*parts, _HOW])


def device_file(row: dict[str, Any]) -> dict[str, Any] | None:
    """Return what a tool puts on a device: its int8 file, else that in floats, else None."""
    files = row["files"]
    return next((file for file in files if file["int8"]), files[0] if files else None)


def verdict(rows: Rows, name: str) -> str:
    """Say by how many points our int8 file is ahead of the best other network in floats on a set, or behind it."""
    rows = [row for row in rows if row["set"] == name]
    ours = [value for row in rows if row["tool"] == OURS and (value := _file_miou(row)) is not None]
    others = {tool: [row["miou"] for row in rows if row["tool"] == tool] for tool in _values(rows, "tool")}
    others.pop(OURS, None)
    if not ours or not others:
        return f"{name}: nothing to compare with yet"
    best = max(others, key=lambda tool: fmean(others[tool]))
    points = 100 * (fmean(ours) - fmean(others[best]))
    side, spread = "ahead of", ""
    if points < 0:
        side = "behind"
    if max(len(ours), len(others[best])) > 1 and min(max(ours), max(others[best])) >= max(min(ours), min(others[best])):
        spread = ", within the spread of seeds"
    return f"{name}: {side} {best} by {abs(points):.1f} points{spread}"


def _of_minutes(rows: Rows, minutes: float) -> str:
    """Return the tables of one budget."""
    rows = [row for row in rows if row["minutes"] == minutes]
    sets = _values(rows, "set")
    tools = [OURS, *(tool for tool in _values(rows, "tool") if tool != OURS)]
    lines = [f"\n## {minutes:g} minutes\n", "mIoU on the held-out part: network in floats / file for a device\n"]
    lines += _table(rows, tools, sets, lambda found: f"{_mean(found, _miou)} / {_mean(found, _file_miou)}")
    lines += [
        "\nOur int8 file and the best other network in floats: " + "; ".join(verdict(rows, n) for n in sets) + ".\n"
    ]
    lines += ["The file for a device: ms for a picture of the set, and kB\n"]
    lines += _table(rows, tools, sets, _size_and_time, kinds=True)
    return "\n".join(lines) + "\n"


def _table(
    rows: Rows, tools: Iterable[str], sets: list[str], cell: Callable[[Rows], str], *, kinds: bool = False
) -> list[str]:
    """Return the lines of a table of tools by sets; the cell is given all seeds."""
    head = ["tool", *(["file"] if kinds else []), *sets]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for tool in tools:
        own = [row for row in rows if row["tool"] == tool]
        if not own:
            continue
        cells = [_kind(own[0])] if kinds else []
        cells += [cell(found) if (found := [row for row in own if row["set"] == name]) else "" for name in sets]
        lines.append(f"| {tool} | " + " | ".join(cells) + " |")
    return lines


def _kind(row: dict[str, Any]) -> str:
    file = device_file(row)
    missing = row.get("no_int8") if file else row.get("no_file")
    return "; ".join(filter(None, [file["kind"] if file else "none", missing]))


def _size_and_time(rows: Rows) -> str:
    files = [file for row in rows if (file := device_file(row))]
    return f"{fmean(f['ms'] for f in files):.0f} ms, {fmean(f['kb'] for f in files):,.0f} kB" if files else ""


def _miou(row: dict[str, Any]) -> float:
    return row["miou"]


def _file_miou(row: dict[str, Any]) -> float | None:
    file = device_file(row)
    return file["miou"] if file else None


def _mean(rows: Rows, value: Callable[[dict[str, Any]], float | None]) -> str:
    """Return a mean over seeds, and of several the lowest and the highest."""
    values = [found for row in rows if (found := value(row)) is not None]
    if not values:
        return "-"
    return f"{fmean(values):.3f}" + (f" ({min(values):.3f}-{max(values):.3f})" if len(values) > 1 else "")


def _settings(rows: Rows) -> str:
    """Return what each tool was told, in how many steps it trained each set, and the versions of its last row."""
    lines = []
    for tool in _values(rows, "tool"):
        of_tool = [row for row in rows if row["tool"] == tool]
        ways = [[row for row in of_tool if row["settings"] == way] for way in _values(of_tool, "settings")]
        versions = ", ".join(f"{name} {number}" for name, number in of_tool[-1]["versions"].items())
        lines.append(f"- {tool}: {'; '.join(map(_setting, ways))}; {versions}\n")
    return "\n## Settings\n\n" + "".join(lines)


def _setting(rows: Rows) -> str:
    """Return one way of training and the steps of each row that was trained so."""
    steps = ", ".join(f"{row['steps']} steps in {row['minutes']:g} minutes of {row['set']}" for row in rows)
    return f"{rows[0]['settings']} ({steps})"


def _named(said: dict[str, Any]) -> str:
    more = f", {said['set']}, {said['minutes']:g} minutes" if "set" in said else ""
    return said["tool"] + more


def _values(rows: Rows, name: str) -> list[Any]:
    """Return what a field holds, each once, in order; numbers sorted."""
    found = list(dict.fromkeys(row[name] for row in rows))
    return sorted(found) if name == "minutes" else found
