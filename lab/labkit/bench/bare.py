# SPDX-License-Identifier: Apache-2.0
"""The guest of a server once more, for xl and virsh, without Nova."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import dataclasses
import json
from xml.etree import ElementTree

from labkit.host import XenHost

#: In dom0, for what is made of it.
DIRECTORY = '/var/lib/nova/bench'
_BRIDGE = 'xenbench'

#: A line as of :meth:`Guest.command`: wait until its QEMU, which ends a moment
#: after the domain, lets go of the disk.
WAIT_FOR_QEMU = ('for n in {1..100}; do pgrep -a qemu | grep -q -- "$1" '
                 '|| break; sleep 0.1; done')


@dataclasses.dataclass(frozen=True)
class Guest:
    """A guest as xl and virsh know it; they have it one at a time.

    :ivar name: of its domain.
    """

    host: XenHost
    name: str

    @property
    def stem(self) -> str:
        """What the names of its files in dom0 begin with."""
        return f'{DIRECTORY}/{self.name}'

    @property
    def config(self) -> str:
        """Its configuration for xl, in dom0."""
        return f'{self.stem}.cfg'

    @property
    def xml(self) -> str:
        """Its definition for virsh, in dom0."""
        return f'{self.stem}.xml'

    @property
    def disk(self) -> str:
        """Its disk, in dom0."""
        return f'{self.stem}.qcow2'

    def command(self, line: str) -> list[str]:
        """A command in dom0.

        :param line: for the shell; $0 is the stem, $1 the domain's name.
        """
        return ['bash', '-c', line, self.stem, self.name]

    def run(self, line: str) -> None:
        """Run a line as of :meth:`command`."""
        self.host.ssh(self.command(line), timeout=300)

    def closed(self) -> None:
        """Wait until nothing has its disk open."""
        self.run(WAIT_FOR_QEMU)

    def destroy(self) -> None:
        """End it, whoever has it; it may not be there."""
        self.run(f'xl destroy "$1" 2>/dev/null; {WAIT_FOR_QEMU}')


def describe(host: XenHost, domain: str, name: str) -> Guest:
    """Describe the guest of a server, with a disk of its own.

    :param domain: name of the server's domain.
    :param name: of the new one.
    """
    guest = Guest(host, name)
    text = host.ssh(['virsh', 'dumpxml', '--inactive', domain]).stdout
    element = ElementTree.fromstring(text)  # noqa: S314 our own libvirt's
    source = _disown(element, name, guest.disk)
    base = json.loads(host.ssh(
        ['qemu-img', 'info', '--force-share', '--output=json',
         source]).stdout)
    host.ssh(['sh', '-c', f'mkdir -p {DIRECTORY} && cat > {guest.xml}'],
             input=ElementTree.tostring(element, encoding='unicode'))
    host.ssh(['sh', '-c', 'virsh domxml-to-native xen-xl "$1" > "$2"', 'sh',
              guest.xml, guest.config])
    host.ssh(['qemu-img', 'create', '-q', '-f', 'qcow2', '-b',
              base['full-backing-filename'], '-F',
              base['backing-filename-format'], guest.disk,
              str(base['virtual-size'])])
    return guest


def _disown(domain: ElementTree.Element, name: str, disk: str) -> str:
    """Make Nova's domain a guest of its own, with its own disk and bridge.

    :param domain: libvirt's XML, changed in place.
    :returns: the file of Nova's root disk.
    """
    uuid = domain.findtext('uuid', '')
    for tag in ('uuid', 'metadata', 'title', 'description'):
        for element in domain.findall(tag):
            domain.remove(element)
    domain.find('name').text = name  # type: ignore[union-attr]
    root = domain.find('devices/disk/source')
    assert root is not None  # noqa: S101 a guest of ours has a disk
    source = root.get('file', '')
    root.set('file', disk)
    # Its QEMU listens beside that of Nova's guest.
    for element in domain.iter():
        if uuid and uuid in element.get('value', ''):
            element.set('value', element.get('value', '').replace(uuid, name))
    for interface in domain.findall('devices/interface'):
        for tag in ('mac', 'target'):
            for element in interface.findall(tag):
                interface.remove(element)
        interface.find('source').set(  # type: ignore[union-attr]
            'bridge', _BRIDGE)
    return source


@contextlib.contextmanager
def place(host: XenHost) -> Iterator[None]:
    """Have in the body what such guests need: a bridge, a directory."""
    host.ssh(['ip', 'link', 'add', _BRIDGE, 'up', 'type', 'bridge'])
    try:
        yield
    finally:
        host.ssh(['ip', 'link', 'delete', _BRIDGE])
        host.ssh(['rm', '-rf', DIRECTORY])
