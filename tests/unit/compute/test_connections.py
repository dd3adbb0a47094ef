# SPDX-License-Identifier: Apache-2.0
"""Connections of this host to volumes."""

import os
from unittest import mock

import fixtures
from nova import exception
from os_brick import exception as brick_exception

from tests.unit import base
from xen44_driver import privsep
from xen44_driver.compute import connections
from xen44_driver.compute import faults
from xen44_driver.compute import machine
from xen44_driver.compute import transports
from xen44_driver.compute import volumes
from xen44_driver.storage import kinds
from xen44_driver.xen import arch
from xen44_driver.xen import sockets
from xen44_driver.xen.diskclass import DiskClass
from xen44_driver.xen.guesttype import GuestType

OTHER = 'e1d2c3b4-a596-4877-8695-a4b3c2d1e0f9'
# The real one.
LINKED = privsep.linked_volumes
LUKS = {'provider': 'luks', 'control_location': 'front-end',
        'encryption_key_id': 'key', 'cipher': 'aes', 'key_size': 256}


class ConnectionsCase(base.TestCase):

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MockPatchObject(
            privsep.sys_admin_pctxt, 'client_mode', False))
        self.useFixture(fixtures.MockPatchObject(
            privsep, 'linked_volumes', LINKED))
        self.run = self.useFixture(fixtures.TempDir()).path
        self.useFixture(fixtures.MockPatchObject(
            sockets, 'DIRECTORY', self.run))
        self.device = os.path.join(self.run, 'sdb')
        with open(self.device, 'w'):
            pass
        self.calls = mock.Mock()
        self.calls.connect_volume.return_value = {
            'path': self.device.encode(), 'type': 'block'}
        self.calls.extend_volume.return_value = 2048
        self.useFixture(fixtures.MockPatchObject(
            connections, '_connector', return_value=self.calls))
        self.encryptor = mock.Mock()
        self.get_encryptor = self.useFixture(fixtures.MockPatchObject(
            connections, '_encryptor', return_value=self.encryptor)).mock
        self.instance = base.instance()

    def connect(self, info=None, **options):
        info = info or base.connection_info()
        connections.connect('context', self.instance, info, **options)
        return info

    def done(self):
        """What os-brick was asked for, in its order."""
        return [call[0] for call in self.calls.method_calls]


class ConnectTest(ConnectionsCase):

    def test_connect(self):
        info = self.connect()
        self.assertEqual(self.device, info['data']['device_path'])
        self.assertTrue(privsep.volume_is_linked(base.VOLUME))
        self.get_encryptor.assert_not_called()

    def test_nothing_is_touched_before_a_refusal(self):
        for info, encryption in (
                (base.connection_info(kind='vmdk'), None),
                (base.connection_info(), {**LUKS, 'provider': 'other'}),
                (base.connection_info(kind='nfs'), LUKS),
                ({**base.connection_info(), 'multiattach': True}, LUKS),
                (base.connection_info(), {
                    **LUKS, 'control_location': 'back-end'})):
            self.assertRaises(
                exception.InvalidVolume, self.connect, info,
                encryption=encryption)
        self.assertEqual([], self.done())

    def test_error_is_one_of_novas(self):
        self.calls.connect_volume.side_effect = (
            brick_exception.VolumeDeviceNotFound(device='sdb'))

        def attach():
            with faults.translated('attach volume', self.instance):
                self.connect()

        raised = self.assertRaises(faults.OperationFailed, attach)
        self.assertIn('sdb', str(raised))

    def test_encrypted(self):
        info = self.connect(encryption=LUKS)
        self.get_encryptor.assert_called_once_with(info, LUKS)
        # What an interrupted operation may have left open is closed first.
        self.assertEqual(
            [mock.call.detach_volume(**LUKS),
             mock.call.attach_volume('context', **LUKS)],
            self.encryptor.method_calls)

    def test_encrypted_again(self):
        """What the last start opened is closed, whichever device it was."""
        self.connect(encryption=LUKS)
        self.calls.connect_volume.return_value['path'] = self.run
        self.get_encryptor.reset_mock()
        self.connect(encryption=LUKS)
        first, second = self.get_encryptor.call_args_list
        self.assertEqual(self.device, first.args[0]['data']['device_path'])
        self.assertEqual(self.run, second.args[0]['data']['device_path'])

    def test_asks_cinder(self):
        with mock.patch.object(
                connections.encryptors, 'get_encryption_metadata',
                return_value=LUKS) as ask:
            self.connect()
            ask.assert_not_called()
            self.connect(base.connection_info(encrypted=True))
        self.encryptor.attach_volume.assert_called_once()

    def test_disconnect(self):
        info = self.connect()
        connections.disconnect(self.instance, info)
        self.calls.disconnect_volume.assert_called_once_with(
            info['data'], info['data'], force=False, ignore_errors=False)
        self.assertFalse(privsep.volume_is_linked(base.VOLUME))
        self.calls.disconnect_volume.side_effect = (
            brick_exception.VolumeDeviceNotFound(device='sdb'))
        connections.disconnect(self.instance, info, force=True)

    def test_disconnect_encrypted(self):
        """Cinder is not asked: it may be away."""
        info = self.connect(base.connection_info(encrypted=True),
                            encryption=LUKS)
        # Nova has asked Cinder for it anew.
        del info['data']['device_path']
        self.encryptor.reset_mock()
        connections.disconnect(self.instance, info)
        self.assertEqual([mock.call.detach_volume()],
                         self.encryptor.method_calls)
        told, _ = self.get_encryptor.call_args.args
        self.assertEqual(self.device, told['data']['device_path'])

    def test_another_instance_uses_it(self):
        info = self.connect()
        other = base.instance(uuid=OTHER)
        connections.connect('context', other, base.connection_info())
        connections.disconnect(self.instance, info)
        self.calls.disconnect_volume.assert_not_called()
        connections.disconnect(other, info)
        self.calls.disconnect_volume.assert_called_once()

    def test_multiattach(self):
        """Each instance has a device of its own."""
        sharing = self.useFixture(fixtures.MockPatchObject(
            connections, 'sharing')).mock
        sharing.make.return_value = f'{self.device}-own'
        with open(f'{self.device}-own', 'w'):
            pass
        info = self.connect({**base.connection_info(), 'multiattach': True})
        self.assertEqual(self.device, info['data']['device_path'])
        sharing.make.assert_called_once_with(
            base.UUID, base.VOLUME, self.device)
        self.assertEqual(f'{self.device}-own', os.readlink(
            os.path.join(self.run, 'volumes', base.UUID, base.VOLUME)))
        connections.extend('context', self.instance, info)
        sharing.extend.assert_called_once_with(
            base.UUID, base.VOLUME, self.device)
        connections.disconnect(self.instance, info)
        sharing.remove.assert_called_once_with(base.UUID, base.VOLUME)

    def test_extend(self):
        info = self.connect()
        self.assertEqual(2048, connections.extend(
            'context', self.instance, info))
        with mock.patch.object(
                connections.encryptors, 'get_encryption_metadata',
                return_value=LUKS):
            info['data']['encrypted'] = True
            self.encryptor.extend_volume.return_value = 1024
            self.assertEqual(1024, connections.extend(
            'context', self.instance, info))
        self.assertIsNone(connections.extend(
            'context', self.instance, base.connection_info(kind='nfs')))
        self.encryptor.extend_volume.return_value = None
        self.calls.extend_volume.return_value = None
        self.assertRaises(exception.VolumeExtendFailed, connections.extend,
                          'context', self.instance, base.connection_info())


class Mapping(dict):
    """What Nova tells of a volume."""

    def __init__(self, volume=base.VOLUME):
        super().__init__(mount_device='/dev/xvdb',
                         connection_info=base.connection_info(volume))
        self.save = mock.Mock()


class AllTest(ConnectionsCase):

    def setUp(self):
        super().setUp()
        self.mapping = Mapping()
        self.machine = machine.Machine(guest_type=GuestType.PVH, disks=(
            kinds.DiskRecord(kind='overlay', name='/dev/xvda', target='xvda',
                             file='disk.qcow2'),
            *volumes.records(
                self.instance, {'block_device_mapping': [self.mapping]},
                arch.load('x86_64').profile(GuestType.PVH), None,
                DiskClass.QEMU)))

    def connect_all(self, *mappings):
        connections.connect_all(
            'context', self.instance, self.machine,
            {'block_device_mapping': mappings})

    def test_connect(self):
        # A rescued guest does not have all of them.
        self.connect_all(Mapping(OTHER), self.mapping)
        self.assertEqual(['connect_volume'], self.done())
        self.mapping.save.assert_called_once_with()

    def test_nova_does_not_know_it(self):
        raised = self.assertRaises(
            exception.DiskNotFound, self.connect_all, Mapping(OTHER))
        self.assertIn(base.VOLUME, str(raised))

    def test_disconnect(self):
        """One failure does not keep the others."""
        self.calls.disconnect_volume.side_effect = OSError('no target')
        connections.disconnect_all(self.instance, {
            'block_device_mapping': [self.mapping, Mapping(OTHER)]})
        self.assertEqual(2, self.calls.disconnect_volume.call_count)

    def test_what_nova_does_not_know_of(self):
        """Such as of an attachment that could not be undone."""
        sharing = self.useFixture(fixtures.MockPatchObject(
            connections, 'sharing')).mock
        for remove in (
                lambda: self.connect_all(self.mapping),
                lambda: connections.connect_all(
                    'context', self.instance, machine.Machine(
                        guest_type=GuestType.PVH,
                        disks=self.machine.disks[:1]), {}),
                lambda: connections.disconnect_all(self.instance, None)):
            self.connect(base.connection_info(OTHER))
            remove()
            sharing.remove.assert_any_call(base.UUID, OTHER)
            sharing.remove.reset_mock()
            self.assertFalse(privsep.volume_is_linked(OTHER))

    def test_volumes_of_a_rescued_guest(self):
        """It does not have them, and the instance does."""
        self.connect(base.connection_info(OTHER))
        self.connect_all(Mapping(OTHER), self.mapping)
        self.assertTrue(privsep.volume_is_linked(OTHER))


class RenewedTest(base.TestCase):
    """Connections that Cinder gave up for a resize."""

    def setUp(self):
        super().setUp()
        self.cinder = self.useFixture(fixtures.MockPatchObject(
            connections.cinder, 'API')).mock.return_value
        self.refresh = self.useFixture(fixtures.MockPatchObject(
            connections.virt_block_device, 'refresh_conn_infos')).mock
        self.useFixture(fixtures.MockPatchObject(
            connections, 'properties', return_value={'host': 'xen1'}))
        self.mapping = Mapping()
        self.mapping['attachment_id'] = 'attachment'
        self.found = {'block_device_mapping': [self.mapping]}
        self.useFixture(fixtures.MockPatchObject(
            volumes, 'known', return_value=self.found))

    def renewed(self):
        self.assertIs(self.found, connections.renewed(
            'context', base.instance()))
        return self.refresh.call_args.args[0]

    def test_lost(self):
        self.cinder.attachment_get.return_value = {'connection_info': {}}
        self.assertEqual([self.mapping], self.renewed())
        self.cinder.attachment_update.assert_called_once_with(
            'context', 'attachment', {'host': 'xen1'}, '/dev/xvdb')
        self.cinder.attachment_complete.assert_called_once_with(
            'context', 'attachment')

    def test_not_lost(self):
        self.cinder.attachment_get.return_value = {
            'connection_info': base.connection_info()}
        self.assertEqual([], self.renewed())
        self.cinder.attachment_update.assert_not_called()


class ConnectorTest(base.TestCase):
    """os-brick's real connectors."""

    def test_each_transport(self):
        self.flags(state_path='/state')
        self.flags(num_volume_scan_tries=7, volume_use_multipath=True,
                   group='xen44')
        found = {}
        for kind in transports.TRANSPORTS:
            found[kind] = connections._connector(
                base.connection_info(kind=kind))
            if kind != 'nvmeof':
                self.assertEqual(7, found[kind].device_scan_attempts)
        self.assertEqual({
            'fibre_channel': 'FibreChannelConnector',
            'iscsi': 'ISCSIConnector', 'iser': 'ISCSIConnector',
            'local': 'LocalConnector', 'nfs': 'RemoteFsConnector',
            'nvmeof': 'NVMeOFConnector', 'rbd': 'RBDConnector'},
            {kind: type(one).__name__ for kind, one in found.items()})
        self.assertTrue(found['rbd'].do_local_attach)
        self.assertTrue(found['iscsi'].use_multipath)
        self.assertEqual('/state/mnt', found['nfs'].get_search_path())

    def test_encryptors(self):
        info = base.connection_info(device_path='/dev/sdb')
        with mock.patch.object(connections.key_manager, 'API'):
            for provider, name in (('luks', 'LuksEncryptor'),
                                   ('luks2', 'Luks2Encryptor')):
                self.assertEqual(name, type(connections._encryptor(
                    info, {**LUKS, 'provider': provider})).__name__)
            self.assertEqual('LuksEncryptor', type(connections._encryptor(
                info, connections._ANY_ENCRYPTION)).__name__)
