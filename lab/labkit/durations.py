# SPDX-License-Identifier: Apache-2.0
"""How long each step of the lab took last time on this machine.

Kept in the cache: a lab that is thrown away does not forget. Nothing depends
on it, so a file that cannot be read or written is passed over.
"""

from __future__ import annotations

import fcntl
import json
import os

from labkit import config

#: Seconds: what took less is not worth telling.
LEAST = 5
#: So many steps are remembered, those noted last.
KEPT = 200


def _read() -> dict[str, float]:
    try:
        known = json.loads((config.CACHE / 'durations.json').read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def last(name: str) -> float | None:
    """Seconds that this step took last time, if that is known."""
    seconds = _read().get(name)
    return seconds if isinstance(seconds, int | float) else None


def hint(name: str) -> str:
    """What to print behind the name of a step that begins.

    :returns: for example ' (73 s last time)'; empty if it is not known, or
        was too short to matter.
    """
    seconds = last(name)
    if seconds is None or seconds < LEAST:
        return ''
    return f' ({seconds:.0f} s last time)'


def note(name: str, seconds: float) -> None:
    """Remember how long a step took."""
    path = config.CACHE / 'durations.json'
    try:
        # Steps run side by side, in several processes too.
        with open(config.CACHE / 'durations.lock', 'a') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = _read()
            known.pop(name, None)
            known[name] = round(seconds, 1)
            kept = dict(list(known.items())[-KEPT:])
            partial = path.with_suffix(f'.{os.getpid()}')
            partial.write_text(json.dumps(kept, indent=1) + '\n')
            partial.replace(path)
    except OSError:
        pass
