#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write the manual's tables that follow the support matrix.

Its own table is made by Sphinx.
"""

from __future__ import annotations

from collections.abc import Iterable
import pathlib

from labkit import features

SOURCE = pathlib.Path(__file__).parent / 'source'
_NOTICE = '.. Written by doc/matrix.py from support-matrix.ini.'


def pages() -> dict[pathlib.Path, str]:
    """Return the content of each file."""
    return {
        SOURCE / 'user/support-matrix-tests.inc': _table(
            ('Feature', 'Guests', 'Tests'), _tests()),
        SOURCE / 'contributor/tempest-skips.inc': _table(
            ('Option', 'Why'),
            ((f'``{name}``', why) for name, why
             in features.skipped(features.load()).items())),
    }


def _tests() -> Iterable[tuple[str, ...]]:
    matrix = features.load()
    columns = [name.removeprefix('driver.') for name in matrix
               if name.startswith('driver.')]
    for row in matrix.values():
        title = row.get('title')
        for column in columns:
            if tests := row.get(f'tests.{column}', '').split():
                yield (title, matrix[f'driver.{column}']['title'],
                       ' '.join(f'``{test}``' for test in tests))
                title = ''


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [_NOTICE, '', '.. list-table::', '   :header-rows: 1', '']
    for cells in (heads, *rows):
        first, *others = (f' {cell}'.rstrip() for cell in cells)
        lines += [f'   * -{first}', *(f'     -{cell}' for cell in others)]
    return '\n'.join(lines) + '\n'


if __name__ == '__main__':
    for path, content in pages().items():
        path.write_text(content)
