# SPDX-License-Identifier: Apache-2.0
"""A double of xenstore and of backends, for fakelibvirt's domains.

QEMU opens a disk if its file is there and, for a qcow2, the file it is based
on; a qcow2 that is none is not opened. It says what the real one says.
"""

import os
import struct

import fixtures
from lxml import etree

from xen44_driver.xen import xenstore

MAGIC = b'QFI\xfb'


class FakeXenstoreFixture(fixtures.Fixture):
    """Put the double behind privsep's functions.

    :param host: the :class:`fakelibvirt.XenHost` whose domains it knows
    :ivar deaf: whether QEMU does nothing and says nothing
    :ivar libxl_log: what libxl logged, of whatever domain
    :ivar vif: entries of network interfaces, beside ``mac``
    :ivar vbd: entries of disks that dom0's kernel serves
    """

    def __init__(self, host) -> None:
        super().__init__()
        self._host = host
        self.deaf = False
        self.libxl_log = ''
        self.vbd = {'state': '4', 'sectors': '2097152'}
        self.vif = {'state': '4', 'hotplug-status': 'connected'}

    def _setUp(self):
        for name in ('backends_are_open', 'read_backends', 'read_log_end'):
            self.useFixture(fixtures.MonkeyPatch(
                f'xen44_driver.privsep.{name}', getattr(self, f'_{name}')))
        self.useFixture(fixtures.MonkeyPatch(
            'xen44_driver.privsep.detach_interface', self._xl_detach))
        self.useFixture(fixtures.MonkeyPatch(
            'xen44_driver.privsep.detach_disk', self._xl_block_detach))

    def _xl_detach(self, domid, devid):
        for domain in self._host.domains.values():
            if domain.id == domid and self._host.guests_obey:
                domain.vifs.pop(devid)

    def _xl_block_detach(self, domid, target):
        for domain in self._host.domains.values():
            if domain.id == domid:
                domain.disks.pop(target)

    def _read_backends(self, domid, kind='qdisk'):
        if kind == 'vif':
            return self._read_vifs(domid)
        if kind == 'vbd':
            return self._read_vbds(domid)
        lines = []
        for domain in self._host.domains.values():
            for disk in self._disks(domain) if domain.id == domid else ():
                target = disk[0]
                values = {'dev': target, 'type': 'qdisk', 'state': '1'}
                if not self._reason(disk):
                    values |= {'state': '2', 'sectors': '2048'}
                lines += [f'/local/domain/0/backend/qdisk/{domid}/'
                          f'{xenstore.disk_number(target)}/{key} = "{value}"'
                          for key, value in values.items()]
        return '\n'.join(lines)

    def _read_vifs(self, domid):
        return '\n'.join(
            f'/local/domain/0/backend/vif/{domid}/{number}/{key} = "{value}"'
            for domain in self._host.domains.values() if domain.id == domid
            for number, mac in domain.vifs.items()
            for key, value in {'mac': mac, **self.vif}.items())

    def _read_vbds(self, domid):
        return '\n'.join(
            f'/local/domain/0/backend/vbd/{domid}/'
            f'{xenstore.disk_number(target)}/{key} = "{value}"'
            for domain in self._host.domains.values() if domain.id == domid
            for target, type_ in domain.disks.items() if type_ == 'block'
            for key, value in {'dev': target, **self.vbd}.items())

    def _backends_are_open(self, domid, numbers, kind='qdisk'):
        found = xenstore.backends(self._read_backends(domid, kind))
        return {backend.number for backend in found
                if backend.is_open} >= set(numbers)

    def _read_log_end(self, kind, name, max_bytes, since=0):
        if kind == 'driver':
            return self.libxl_log.encode()
        if kind != 'qemu':
            return None
        lines = []
        for domain in self._host.domains.values():
            for disk in self._disks(domain) if domain.name() == name else ():
                reason = self._reason(disk)
                if reason and not self.deaf:
                    number = xenstore.disk_number(disk[0])
                    lines.append(
                        f'xen-qemu-system-i386: failed to create \'qdisk\' '
                        f'device \'{number}\': failed to create drive: '
                        f'{reason}')
        return '\n'.join(lines).encode()

    @staticmethod
    def _disks(domain):
        for disk in etree.fromstring(domain.live).xpath(
                "devices/disk[@device='disk'][driver/@name='qemu']"):
            if domain.isActive() and (
                    disk.find('target').get('dev') not in domain.disks):
                continue
            yield (disk.find('target').get('dev'),
                   disk.find('driver').get('type'),
                   disk.find('source').get('file'))

    def _reason(self, disk):
        """Why QEMU does not open a disk; empty if it does."""
        _target, type_, path = disk
        if self.deaf:
            return 'deaf'
        missing = "Could not open '{}': No such file or directory"
        if not os.path.exists(path):
            return missing.format(path)
        if type_ != 'qcow2':
            return ''
        with open(path, 'rb') as image:
            header = image.read(20)
            if header[:4] != MAGIC or len(header) < 20:
                return 'Image is not in qcow2 format'
            _, _, offset, size = struct.unpack('>4sIQI', header)
            image.seek(offset)
            # A relative one is relative to the overlay.
            base = os.path.join(os.path.dirname(path),
                                image.read(size).decode()) if size else ''
        if base and not os.path.exists(base):
            return f'Could not open backing file: {missing.format(base)}'
        return ''

