# SPDX-License-Identifier: Apache-2.0
"""dom0's virtual environment of nova and neutron, as seen from outside."""

from __future__ import annotations

import pathlib

VENV = '/opt/stack/venv'
SITE_PACKAGES = f'{VENV}/lib/python3.13/site-packages'
#: What a package brings beside its code, inside the environment.
DATA = ('bin', 'etc', 'share')


def adopt_scripts(directory: pathlib.Path) -> None:
    """Have scripts that pip made run in dom0's environment.

    pip writes the Python that it runs in into them.
    """
    for script in directory.iterdir():
        _, rest = script.read_text().split('\n', 1)
        script.write_text(f'#!{VENV}/bin/python\n{rest}')
