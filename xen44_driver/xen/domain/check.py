# SPDX-License-Identifier: Apache-2.0
"""Checks of a domain's values; their errors name the field."""

from __future__ import annotations

from collections.abc import Iterable
import re

from xen44_driver.xen import errors

#: Characters that XML 1.0 does not allow: control characters, surrogates and
#: two non-characters.
_NOT_XML = re.compile('[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]')
_CONTROL = re.compile('[\x00-\x1f\x7f-\x9f\u2028\u2029]')


def printable(text: str) -> str:
    """Return a text without characters that XML does not allow.

    All line ends become newlines.
    """
    text = text.replace('\r\n', '\n').replace('\r', '\n')
    return _NOT_XML.sub('', text)


def one_line(text: str) -> str:
    """Return a text on one line, without what XML does not allow."""
    return _CONTROL.sub(' ', _NOT_XML.sub('', text)).strip()


def carried(field: str, value: str) -> None:
    """Require text that is not blank and that XML preserves unchanged."""
    if not value.strip() or _NOT_XML.search(value):
        raise errors.SpecError(field, value, 'text, not blank, without '
                               'characters that XML cannot carry')


def line(field: str, value: str) -> None:
    """Require one line of text that is not blank and that XML allows."""
    if (not value.strip() or _NOT_XML.search(value)
            or _CONTROL.search(value)):
        raise errors.SpecError(field, value, 'one line of text, not blank, '
                               'without control characters')


def path(field: str, value: str, without: str = '') -> None:
    """Require an absolute path that XML allows.

    :param without: further characters that the path must not contain.
    """
    line(field, value)
    bad = [char for char in without if char in value]
    if (not value.startswith('/') or '..' in value.split('/')
            or value != value.rstrip() or bad):
        no = f' or {without!r}' if without else ''
        raise errors.SpecError(field, value,
                               f'an absolute path without ".."{no}')


def match(field: str, value: str, pattern: str, allowed: str) -> None:
    """Require that the whole value matches an ASCII regular expression."""
    if not re.fullmatch(pattern, value, re.ASCII):
        raise errors.SpecError(field, value, allowed)


def one_of(field: str, value: str, allowed: Iterable[str]) -> None:
    """Require one of some values."""
    allowed = tuple(allowed)
    if value not in allowed:
        raise errors.SpecError(field, value, allowed)


def within(field: str, value: int, low: int, high: int) -> None:
    """Require a number from low to high, both inclusive."""
    if not low <= value <= high:
        raise errors.SpecError(field, value, f'{low} to {high}')
