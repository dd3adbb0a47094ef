#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write the usage of the commands into the manual."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import os
import pathlib

from xen44_driver.cloudstack import program
from xen44_driver.cmd import cli

#: What is written; the pages in cli/ include it.
DIRECTORY = pathlib.Path(__file__).parent / 'source/cli'


def pages() -> dict[pathlib.Path, str]:
    """Return the content of each file."""
    # argparse wraps its text by it.
    os.environ['COLUMNS'] = '80'
    return {DIRECTORY / f'{name}-usage.inc': parser.format_help()
            for top, its in (('xen44-host', cli.host_parser()),
                             ('xen44-import', cli.import_parser()),
                             ('xen44-cloudstack', program.parser()))
            for name, parser in _parsers(top, its)}


def _parsers(name: str, parser: argparse.ArgumentParser,
             ) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield a command and all below it."""
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            # Those without help are not for people.
            for below in action._choices_actions:
                its = action.choices[below.dest]
                yield from _parsers(f'{name}-{below.dest}', its)


if __name__ == '__main__':
    for path, text in pages().items():
        path.write_text(text)
