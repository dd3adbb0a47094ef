# SPDX-License-Identifier: Apache-2.0
"""libvirt's schema of domains."""

import functools
import pathlib

from lxml import etree

_PATH = pathlib.Path('/usr/share/libvirt/schemas/domain.rng')


@functools.cache
def _schema() -> etree.RelaxNG:
    if not _PATH.exists():
        raise AssertionError(
            f'{_PATH} is missing: install libvirt\'s schemas '
            '(Debian: libvirt0 or, from 11, libvirt-common)')
    return etree.RelaxNG(etree.parse(_PATH))


def assert_valid(text: str) -> None:
    """See that libvirt's schema accepts a domain's XML."""
    _schema().assertValid(etree.fromstring(text))
