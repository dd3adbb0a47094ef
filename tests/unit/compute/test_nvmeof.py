# SPDX-License-Identifier: Apache-2.0
"""Volumes of NVMe-oF over TCP, with os-brick's real connector.

The doubles are what dom0's kernel shows in sysfs and in /dev, and what the
program nvme does. The properties are such as Cinder's target nvmet returns
them.
"""

import itertools
import os
import pathlib
import shutil
from unittest import mock

import fixtures
from oslo_serialization import jsonutils

from tests.unit import base
from tests.unit.compute import connectors
from xen44_driver import privsep
from xen44_driver.compute import connections
from xen44_driver.compute import transports
from xen44_driver.core import backends

PREFIX = 'nqn.2026-11.test:nvme-'
NQN = f'{PREFIX}{base.VOLUME}'
OTHER = 'e1d2c3b4-a596-4877-8695-a4b3c2d1e0f9'
HOST_NQN = f'nqn.2014-08.org.nvmexpress:uuid:{base.UUID}'
ADDRESS, PORT = '192.0.2.1', '4420'
LUKS = {'provider': 'luks', 'control_location': 'front-end'}
# Cinder's nvmeof_conn_info_version.
VERSIONS = {
    1: {'target_portal': ADDRESS, 'target_port': PORT, 'nqn': NQN,
        'transport_type': 'tcp', 'ns_id': '10'},
    2: {'target_nqn': NQN, 'vol_uuid': base.VOLUME,
        'portals': [(ADDRESS, PORT, 'tcp')], 'ns_id': '10'},
}


class NvmeofTest(connectors.ConnectorCase):

    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        for name, directory in (('NVME_CTRL_SYSFS_PATH', 'ctl'),
                                ('DEV_SEARCH_PATH', 'dev'),
                                ('BLK_SYSFS_PATH', 'block')):
            (self.root / directory).mkdir()
            self.useFixture(fixtures.MonkeyPatch(
                f'os_brick.initiator.connectors.nvmeof.{name}',
                f'{self.root / directory}/'))
        for name, double in (
                ('utils.get_host_nqn', lambda *_: HOST_NQN),
                ('utils.CUSTOM_LINK_PREFIX', f'{self.root}/os-brick'),
                ('privileged.rootwrap.link_root',
                 lambda target, link, force: os.symlink(target, link)),
                ('privileged.rootwrap.unlink_root', os.unlink)):
            self.useFixture(fixtures.MonkeyPatch(f'os_brick.{name}', double))
        self.namespaces = {NQN: [base.VOLUME], PREFIX + OTHER: [OTHER]}
        self.size = 1024
        # Whether the kernel makes a device before it shows it in sysfs.
        self.makes_devices = True
        self.info = self.connection_info(2)

    @staticmethod
    def connection_info(version, **data):
        return base.connection_info(
            kind='nvmeof', qos_specs=None, access_mode='rw', encrypted=False,
            cacheable=False, **{**VERSIONS[version], **data})

    def program(self, *command):
        match command:
            case ('nvme', 'connect', '-a', address, '-s', port, '-t', 'tcp',
                  '-n', nqn, *_):
                self.controller(nqn, f'traddr={address},trsvcid={port}')
            case ('nvme', 'disconnect', '-d', device):
                self.lose(os.path.basename(device))
            case ('nvme', 'id-ns', '-ojson', device):
                (self.root / 'block' / os.path.basename(device)
                 / 'size').write_text(f'{self.size // 512}\n')
                return jsonutils.dumps({
                    'nsze': self.size // 512,
                    'lbafs': [{'ms': 0, 'ds': 9, 'rp': 0}]}), ''
        return None

    def controller(self, nqn, address):
        """Connect to a subsystem: the kernel takes the first free name."""
        number = next(number for number in itertools.count()
                      if not self.sysfs(number).exists())
        self.attributes(
            self.sysfs(number), subsysnqn=nqn, transport='tcp', state='live',
            address=f'{address},src_addr=192.0.2.1', hostnqn=HOST_NQN)
        for index, uuid in enumerate(self.namespaces[nqn]):
            name = f'nvme{number}n{index + 1}'
            # A path to it; the kernel can have several.
            self.attributes(
                self.sysfs(number) / f'nvme{number}c{number}n{index + 1}',
                uuid=uuid, nguid=uuid[::-1], nsid=10 + index)
            self.attributes(self.root / 'block' / name, size=2)
            if self.makes_devices:
                self.device(name).touch()

    def lose(self, controller):
        """Disconnect a controller, and what is on it."""
        shutil.rmtree(self.root / 'ctl' / controller)
        for device in self.root.glob(f'*/{controller}n*'):
            if device.is_dir():
                shutil.rmtree(device)
            else:
                device.unlink()

    @staticmethod
    def attributes(directory, **values):
        directory.mkdir()
        for name, value in values.items():
            (directory / name).write_text(f'{value}\n')

    def sysfs(self, number):
        return self.root / 'ctl' / f'nvme{number}'

    def device(self, name):
        return self.root / 'dev' / name

    def connected(self):
        """The controllers that there are."""
        return sorted(path.name for path in (self.root / 'ctl').iterdir())

    def assert_linked(self, name):
        device = str(self.device(name))
        self.assertEqual(device, self.info['data']['device_path'])
        self.assertEqual(device, privsep.volume_device(
            base.UUID, base.VOLUME))

    def test_life(self):
        for version in VERSIONS:
            self.info = self.connection_info(version)
            self.connect()
            connect, = self.ran('nvme connect')
            self.assertIn(f'-a {ADDRESS} -s {PORT} -t tcp -n {NQN} ', connect)
            self.assert_linked('nvme0n1')

            # Every start connects it anew.
            self.connect()
            self.assertEqual(1, len(self.ran('nvme connect')))
            # As after this host was booted anew: another has its name.
            self.lose('nvme0')
            self.controller(PREFIX + OTHER, f'traddr={ADDRESS},trsvcid={PORT}')
            self.connect()
            self.assert_linked('nvme1n1')

            self.size = 2048
            self.assertEqual(2048, connections.extend(
                'context', self.instance, self.info))
            self.assertEqual(
                [f'nvme id-ns -ojson {self.device("nvme1n1")}'],
                self.ran('id-ns'))

            connections.disconnect(self.instance, self.info)
            self.assertEqual(['nvme disconnect -d /dev/nvme1'],
                             self.ran('nvme disconnect'))
            self.assertEqual(['nvme0'], self.connected())
            # It is safe to repeat.
            connections.disconnect(self.instance, self.info)
            self.assertEqual(['nvme0'], self.connected())
            self.lose('nvme0')
            self.commands.clear()

    def test_device_is_not_known(self):
        """Its attachment was interrupted; os-brick would leave it."""
        for path in (None, str(self.device('nvme7n1'))):
            for version in VERSIONS:
                self.info = self.connection_info(version, device_path=path)
                connections._connector(self.info).connect_volume(
                    {**self.info['data']})
                self.assertEqual(['nvme0'], self.connected())
                connections.disconnect(self.instance, self.info)
                self.assertEqual([], self.connected())

    def test_device_is_another_volumes(self):
        """This host was booted anew, and names went round."""
        self.connect()
        self.lose('nvme0')
        self.controller(PREFIX + OTHER, f'traddr={ADDRESS},trsvcid={PORT}')
        # As when nova-compute is killed before it notes the new one.
        connections._connector(self.info).connect_volume(
            {**self.info['data']})
        connections.disconnect(self.instance, self.info)
        self.assertEqual([f'blockdev --flushbufs {self.device("nvme1n1")}'],
                         self.ran('flushbufs'))
        self.assertEqual(['nvme0'], self.connected())

    def test_replicas(self):
        """Their RAID has a name of its own."""
        self.assertEqual('/dev/md/it', transports.TRANSPORTS['nvmeof'].find({
            'device_path': '/dev/md/it',
            'vol_uuid': base.VOLUME, 'replica_count': 2, 'volume_replicas': [
                {'target_nqn': f'{NQN}-{number}', 'vol_uuid': base.VOLUME,
                 'portals': [(ADDRESS, PORT, 'tcp')]}
                for number in range(2)]}))

    def test_target_has_other_volumes_of_this_host(self):
        """As with Cinder's lvm_share_target."""
        self.namespaces[NQN].append(OTHER)
        self.connect()
        connections.disconnect(self.instance, self.info)
        self.assertEqual(['nvme0'], self.connected())

    def test_device_comes_after_its_name(self):
        self.makes_devices = False
        with mock.patch.object(
                backends.time, 'sleep',
                side_effect=lambda _: self.device('nvme0n1').touch()):
            self.connect()
        self.assert_linked('nvme0n1')

    def test_device_does_not_come(self):
        self.useFixture(fixtures.MockPatchObject(
            connections, 'DEVICE_TIMEOUT', 0))
        self.makes_devices = False
        raised = self.assertRaises(FileNotFoundError, self.connect)
        self.assertIn(str(self.device('nvme0n1')), str(raised))
        # As the operation that failed does.
        self.device('nvme0n1').touch()
        connections.give_up(self.instance, self.info)
        self.assertEqual([], self.connected())

    def test_encrypted(self):
        """os-brick's own link, which leads nowhere then, goes too."""
        self.info['data']['encrypted'] = True

        def opened(*_args, **_options):
            link = self.info['data']['device_path']
            os.unlink(link)
            os.symlink('/dev/mapper/crypt', link)

        encryptor = mock.Mock()
        encryptor.attach_volume.side_effect = opened
        link = f'{self.root}/os-brick' + str(
            self.device('nvme0n1')).replace('/', '+')
        with mock.patch.object(connections, '_encryptor',
                               return_value=encryptor), \
                mock.patch.object(privsep, 'link_volume'):
            self.connect(encryption=LUKS)
            self.assertEqual(link, self.info['data']['device_path'])
            connections.disconnect(self.instance, self.info)
        self.assertFalse(os.path.lexists(link))
        self.assertEqual([], self.connected())
