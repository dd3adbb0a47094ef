# SPDX-License-Identifier: Apache-2.0
"""Volumes on Fibre Channel, with os-brick's real connector.

The doubles are the host's sysfs and udev, and what root runs. The properties
are such as the array's driver in Cinder returns them.
"""

import os

import fixtures
from os_brick import exception as brick_exception
from os_brick.initiator import linuxfc
from oslo_service import loopingcall

from tests.unit import base
from tests.unit.compute import connectors
from xen44_driver import privsep
from xen44_driver.compute import connections

# An adapter with two ports, of which one has no link.
ONLINE = '21000024ff4bbe74'
HBAS = {'host3': {'port_name': f'0x{ONLINE}',
                  'node_name': '0x20000024ff4bbe74', 'port_state': 'Online'},
        'host4': {'port_name': '0x21000024ff4bbe75',
                  'node_name': '0x20000024ff4bbe75',
                  'port_state': 'Linkdown'}}
TARGETS = ['524A9372A1B2C300', '524A9372A1B2C310']
LUN = 1
PATHS = [f'/dev/disk/by-path/pci-0000:03:00.0-fc-0x{target.lower()}-lun-{LUN}'
         for target in TARGETS]
MULTIPATH = '/dev/disk/by-id/dm-uuid-mpath-3624a9370a1b2c3'
WWN = '3624a9370a1b2c3'


class FibreChannelTest(connectors.ConnectorCase):

    def setUp(self):
        super().setUp()
        self.sysfs()
        # What udev shows, and what it leads to; after a scan for it.
        self.unseen = {path: f'/dev/sd{letter}'
                       for path, letter in zip(PATHS, 'bc', strict=True)}
        self.seen = {}
        self.size = 2 ** 30
        self.double(('/dev/disk/', '/dev/sd', '/sys/block/sd'), {
            'os.path.exists': self.exists,
            'os.path.realpath': self.real_path,
            'os.path.islink': lambda path: path in self.seen,
            'os.readlink': lambda path: self.seen[path],
            'os.stat': self.stat})
        self.useFixture(fixtures.MonkeyPatch(
            'os_brick.privileged.rootwrap.execute_root', self.execute))
        start = loopingcall.FixedIntervalLoopingCall.start
        self.useFixture(fixtures.MonkeyPatch(
            'oslo_service.loopingcall.FixedIntervalLoopingCall.start',
            lambda call, interval: start(call, interval=0.01)))
        self.info = base.connection_info(
            kind='fibre_channel', target_discovered=True, discard=True,
            target_lun=LUN, target_wwn=TARGETS,
            initiator_target_map={ONLINE.upper(): TARGETS},
            addressing_mode='SAM2', qos_specs=None, access_mode='rw',
            encrypted=False, cacheable=False)

    def sysfs(self):
        """The host's adapter, as in /sys/class/fc_host."""
        root = self.useFixture(fixtures.TempDir()).path
        hosts = os.path.join(root, 'class')
        os.mkdir(hosts)
        for number, (name, values) in enumerate(HBAS.items()):
            real = os.path.join(
                root, 'devices/pci0000:00/0000:00:03.0',
                f'0000:03:00.{number}', name, 'fc_host', name)
            os.makedirs(real)
            for key, value in values.items():
                with open(os.path.join(real, key), 'w') as file:
                    file.write(f'{value}\n')
            os.symlink(real, os.path.join(hosts, name))
        self.useFixture(fixtures.MockPatchObject(
            linuxfc.LinuxFibreChannel, 'FC_HOST_SYSFS_PATH', hosts))

    def exists(self, path):
        # A link, a device, or what sysfs has of one.
        device = path.removeprefix('/sys/block/').partition('/')[0]
        return path in self.seen or any(
            real in (path, f'/dev/{device}') for real in self.seen.values())

    def real_path(self, path):
        return self.seen.get(path, path)

    def stat(self, path):
        if not self.exists(path):
            raise FileNotFoundError(path)

    def program(self, *command):
        match command:
            case ('tee', '-a', path) if path.endswith('/scan'):
                self.seen |= self.unseen
            case ('tee', '-a', path) if path.endswith('/delete'):
                device = f'/dev/{path.split("/")[3]}'
                self.seen = {name: real for name, real in self.seen.items()
                             if real != device}
            case ('tee', '-a', path) if path.endswith('/rescan'):
                self.size *= 2
            case ('/lib/udev/scsi_id', *_):
                return WWN, ''
            case ('lsscsi',):
                return ''.join(
                    f'[3:0:{number}:{LUN}]  disk  PURE  FlashArray  '
                    f'8888  /dev/sd{letter}\n'
                    for number, letter in enumerate('bc')), ''
            case ('blockdev', '--getsize64', _):
                return f'{self.size}\n', ''
        return None

    def test_properties(self):
        """Only of ports that have a link."""
        self.useFixture(fixtures.MonkeyPatch(
            'os_brick.initiator.connector._get_connector_list',
            lambda *_args: ['os_brick.initiator.connectors.fibre_channel.'
                            'FibreChannelConnector']))
        self.assertEqual([ONLINE], connections.properties()['wwpns'])

    def test_life(self):
        self.connect()
        self.assertEqual(PATHS[0], self.info['data']['device_path'])
        self.assertTrue(self.ran('/sys/class/scsi_host/host3/scan'))
        self.assertEqual([], self.ran('host4'))
        self.assertTrue(privsep.volume_is_linked(base.VOLUME))

        # Every start connects it anew.
        self.commands.clear()
        self.connect()
        self.assertEqual([], self.ran('/scan'))

        # Both paths are scanned for the new size.
        self.assertEqual(4 * 2 ** 30, connections.extend(
            'context', self.instance, self.info))
        self.assertEqual(2, len(self.ran('/rescan')))

        connections.disconnect(self.instance, self.info)
        self.assertEqual({}, self.seen)
        # First that of the path that was used.
        self.assertEqual('blockdev --flushbufs /dev/sdb',
                         self.ran('--flushbufs')[0])
        # It is safe to repeat.
        connections.disconnect(self.instance, self.info)

    def test_multipath(self):
        self.flags(volume_use_multipath=True, group='xen44')
        self.unseen[MULTIPATH] = '/dev/dm-0'
        self.connect()
        self.assertEqual(MULTIPATH, self.info['data']['device_path'])
        connections.disconnect(self.instance, self.info)
        self.assertTrue(self.ran('multipath -f'))
        self.assertEqual([], self.ran('--flushbufs'))
        self.assertEqual(2, len(self.ran('/delete')))

    def test_not_zoned(self):
        """The array does not show the volume to this host."""
        self.unseen.clear()
        self.flags(num_volume_scan_tries=2, group='xen44')
        self.assertRaises(brick_exception.NoFibreChannelVolumeDeviceFound,
                          self.connect)
        self.assertEqual(2, len(self.ran('/scan')))
        self.assertFalse(privsep.volume_is_linked(base.VOLUME))

    def test_no_adapter(self):
        self.useFixture(fixtures.MockPatchObject(
            linuxfc.LinuxFibreChannel, 'FC_HOST_SYSFS_PATH', '/nowhere'))
        self.assertRaises(brick_exception.NoFibreChannelHostsFound,
                          self.connect)
