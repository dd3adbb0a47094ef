#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write the manual's tables of image properties and extra specs."""

from __future__ import annotations

import pathlib

from nova import objects

from xen44_driver.compute import properties
from xen44_driver.compute.properties import Verdict

#: What is written; user/properties.rst includes it.
PAGE = pathlib.Path(__file__).parent / 'source/user/properties-tables.inc'

_TITLES = {
    Verdict.HONOURED: ('Honoured', 'Values', 'By'),
    Verdict.HARMLESS: ('Harmless', None, 'Why'),
    Verdict.REFUSED: ('Refused', 'Harmless values', 'Why'),
}


def tables() -> str:
    """Return all tables, as reStructuredText."""
    lines = ['.. Written by doc/properties.py from compute/properties.py.']
    for verdict, (title, values, reason) in _TITLES.items():
        heads = ['Image property', 'Extra spec', values, reason]
        lines += ['', title, '=' * len(title), '',
                  '.. list-table::', '   :header-rows: 1', '']
        lines += _row([head for head in heads if head])
        for entry in properties.table():
            if entry.verdict is verdict:
                lines += _row([
                    f'``{entry.image}``' if entry.image else '',
                    f'``{entry.flavor}``' if entry.flavor else '',
                    *([str(entry.allowed)] if values else []),
                    entry.reason])
    return '\n'.join(lines) + '\n'


def _row(cells: list[str]) -> list[str]:
    first, *others = (f' {cell}'.rstrip() for cell in cells)
    return [f'   * -{first}', *(f'     -{cell}' for cell in others)]


if __name__ == '__main__':
    objects.register_all()
    PAGE.write_text(tables())
