"""`unetres-edge profile`: what the operations of networks cost on this device, as a file to plan networks by."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass

from .. import command_line
from ..engines.pool import MOST_THREADS
from ..files import check_report
from ..settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class ProfileSettings(Settings):
    """How the device is measured, and where the figures go."""

    out: str = setting(help="file for the profile", metavar="F")
    threads: int = setting(1, "threads of one inference", least=1, most=MOST_THREADS, metavar="N")
    seconds: float = setting(180, "time to take, about", above=0, most=86_400, metavar="S", unit="s")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what is measured, and how long."""
    command_line.add_options(parser, ProfileSettings)


def run(options: argparse.Namespace) -> None:
    """Measure this device and write its profile."""
    from ..latency.measure import measure_profile

    settings = command_line.read(ProfileSettings, options)
    check_report(settings.out, dict.fromkeys(("call_ms", "threads", "ops")))

    def progress(done: int, total: int) -> None:
        if done % 50 == 0 or done == total:
            print(f"[{done}/{total}] operations", flush=True)

    profile = measure_profile(threads=settings.threads, seconds=settings.seconds, progress=progress)
    profile.save(settings.out)
    kinds = Counter(f"{cost.op.kind} {cost.op.dtype}" for cost in profile.costs)
    print(f"device     {profile.device['processor']}, {profile.threads} of {profile.device['cores']} threads")
    print(f"operations {len(profile.costs)} of {len(kinds)} kinds; a call by itself {profile.call_ms:.3f} ms")
    print(f"profile    {settings.out}")
