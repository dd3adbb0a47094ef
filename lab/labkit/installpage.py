# SPDX-License-Identifier: Apache-2.0
"""The manual's page on installing the driver, as its reader follows it."""

from __future__ import annotations

from collections.abc import Iterator
import configparser
import dataclasses
import io
import pathlib
import re
import tomllib

from labkit import cache
from labkit import config
from labkit import util
from labkit.cloud import install

PAGE = config.CHECKOUT / 'doc/source/install/index.rst'

#: What underlines a title, and what an item of a list begins with.
_UNDERLINE = re.compile(r'([=\-~^"])\1{2,}$')
_ITEM = re.compile(r' *(?:(?:#|\d+)\.|[*-]) +')
#: What a compute node's configuration has in the lab because of the driver,
#: and an operator by the page alone.
_OWN_SECTION = re.compile(r'xen44(_|$)')
_OWN_OPTIONS = {
    'DEFAULT': ('compute_driver', 'instances_path', 'state_path'),
    'oslo_concurrency': ('lock_path',),
    'vnc': ('server_listen', 'server_proxyclient_address'),
}


@dataclasses.dataclass(frozen=True)
class Block:
    """A literal block of the page.

    :ivar section: title of the section that it is in.
    :ivar language: that of ``code-block``; empty for all others.
    """

    section: str
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """Its lines, those that go on in the next one as one."""
        return re.sub(r' *\\\n *', ' ', self.text).splitlines()


def blocks(page: str) -> Iterator[Block]:
    """The literal blocks of a page, in its order.

    What it includes of other files (``literalinclude``) is none of them.

    :param page: reStructuredText, as far as the manual uses it.
    """
    lines = page.splitlines()
    section = ''
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if _UNDERLINE.match(line) and number > 1 and lines[number - 2]:
            section = lines[number - 2]
            continue
        directive = re.match(r' *\.\. ([\w-]+)::(?: (.*))?$', line)
        if directive and directive[1] != 'code-block':
            continue
        if directive or line.endswith('::'):
            text = _indented(lines[number:], _margin(line))
            number += len(text)
            yield Block(section, directive[2] if directive else '',
                        _dedented(text))


def _margin(line: str) -> int:
    """The column in which a paragraph begins."""
    item = _ITEM.match(line)
    return item.end() if item else len(line) - len(line.lstrip())


def _indented(lines: list[str], margin: int) -> list[str]:
    """The lines up to the first that begins in that column or before."""
    for count, line in enumerate(lines):
        if line and len(line) - len(line.lstrip()) <= margin:
            return lines[:count]
    return lines


def _dedented(lines: list[str]) -> str:
    """The text of a block, without empty lines around it."""
    margin = min(len(line) - len(line.lstrip()) for line in lines if line)
    return '\n'.join(line[margin:] for line in lines).strip('\n')


def nova_conf(settings: str, page: str) -> str:
    """Nova's configuration by the page.

    :param settings: that of the lab's compute nodes, of which what the driver
        alone needs counts for nothing.
    :param page: what the page adds.
    """
    merged = _parsed(settings)
    for section in merged.sections():
        if _OWN_SECTION.match(section):
            merged.remove_section(section)
        for name in _OWN_OPTIONS.get(section, ()):
            merged.remove_option(section, name)
    merged.read_string(page)
    out = io.StringIO()
    merged.write(out)
    return out.getvalue()


def _parsed(text: str) -> configparser.RawConfigParser:
    # [DEFAULT] is a section like all others there.
    parser = configparser.RawConfigParser(
        default_section='', delimiters='=', comment_prefixes='#')
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return parser


def build_requirements() -> pathlib.Path:
    """A directory of wheels with what pip builds this checkout with.

    They are downloaded if they are not cached.

    :raises util.LabError: pip failed.
    """
    with open(config.CHECKOUT / 'pyproject.toml', 'rb') as file:
        names = tomllib.load(file)['build-system']['requires']

    def build(scratch: pathlib.Path, log: pathlib.Path) -> None:
        util.run([install.venv_path() / 'bin/pip', 'download', '--quiet',
                  '--only-binary=:all:', '--dest', scratch / 'result',
                  *names], log=log, timeout=300)

    return cache.directory('build-wheels', cache.recipe(*names), build)
