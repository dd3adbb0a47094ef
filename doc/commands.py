#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write the usage of the commands into the manual."""

from __future__ import annotations

import argparse
import os
import pathlib

from xen44_driver.cmd import cli

#: What is written; cli/xen44-host.rst includes it.
DIRECTORY = pathlib.Path(__file__).parent / 'source/cli'


def pages() -> dict[pathlib.Path, str]:
    """Return the content of each file."""
    # argparse wraps its text by it.
    os.environ['COLUMNS'] = '80'
    top = cli.host_parser()
    [commands] = [action for action in top._actions
                  if isinstance(action, argparse._SubParsersAction)]
    parsers = {'xen44-host': top} | {
        f'xen44-host-{name}': parser
        for name, parser in commands.choices.items()}
    return {DIRECTORY / f'{name}-usage.inc': parser.format_help()
            for name, parser in parsers.items()}


if __name__ == '__main__':
    for path, text in pages().items():
        path.write_text(text)
