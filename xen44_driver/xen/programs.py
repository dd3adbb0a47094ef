# SPDX-License-Identifier: Apache-2.0
"""Run a program of dom0 that ends by itself."""

from __future__ import annotations

import subprocess

#: Seconds a program may take.
TIMEOUT = 30


def run(*command: str) -> str:
    """Run a program and return its standard output.

    :raises OSError: it does not exist, failed, or took too long.
    """
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            # A domain that is not ours may have any bytes for a name.
            errors='replace', check=True, timeout=TIMEOUT)
    except subprocess.CalledProcessError as error:
        raise OSError(f'{" ".join(command)}: {error.stderr.strip()}') from None
    except subprocess.TimeoutExpired as error:
        raise OSError(str(error)) from None
    return done.stdout
