# SPDX-License-Identifier: Apache-2.0
"""A double of os-brick: connections of this host to volumes.

A volume is a file that keeps its content, and each connection has another
device, a link to it. Encrypted ones get one more, as from dm-crypt.
"""

import errno
import os

import fixtures
from os_brick import exception as brick_exception
from oslo_concurrency import processutils


class Connector:
    """What os-brick's factory returns."""

    def __init__(self, brick, protocol) -> None:
        self._brick = brick
        self._protocol = protocol

    def connect_volume(self, properties):
        self._brick.fail('connect')
        return {'path': self._brick.connect(
            self._protocol, properties['volume_id']), 'type': 'block'}

    def disconnect_volume(self, properties, device_info, force=False,
                          ignore_errors=False):
        volume = properties['volume_id']
        if self._brick.busy:
            self._brick.busy -= 1
            raise processutils.ProcessExecutionError(
                cmd='rbd unmap', exit_code=errno.EBUSY)
        self._brick.forced.append(force)
        self._brick.connected.pop(volume, None)
        if not (force and ignore_errors):
            self._brick.fail('disconnect')

    def extend_volume(self, properties):
        self._brick.fail('extend')
        assert properties['volume_id'] in self._brick.connected
        return self._brick.size


class Encryptor:
    """What os-brick's encryptors do to a device."""

    def __init__(self, brick, connection_info, values) -> None:
        self._brick = brick
        self._volume = connection_info['data']['volume_id']
        self._values = values
        assert connection_info['data']['device_path']

    def attach_volume(self, context, **encryption):
        assert self._volume not in self._brick.opened
        self._brick.fail('open')
        self._brick.opened[self._volume] = self._values

    def detach_volume(self, **encryption):
        self._brick.opened.pop(self._volume, None)

    def extend_volume(self, context, **encryption):
        return self._brick.size - 4096


class FakeBrickFixture(fixtures.Fixture):
    """Put the double in os-brick's place.

    :ivar connected: volume -> the device that this host has of it
    :ivar opened: encrypted volume -> what its encryptor was told
    :ivar protocols: those of all connections, in their order
    :ivar failures: what fails from now on: connect, disconnect, open, extend
    :ivar busy: how often a device cannot be disconnected, as it is in use
    :ivar forced: whether each disconnection was by force
    :ivar size: bytes of every volume
    """

    def __init__(self) -> None:
        super().__init__()
        self.connected = {}
        self.opened = {}
        self.protocols = []
        self.failures = set()
        self.busy = 0
        self.forced = []
        self.size = 1024 ** 3

    def _setUp(self):
        self._directory = self.useFixture(fixtures.TempDir()).path
        self.useFixture(fixtures.MonkeyPatch(
            'os_brick.initiator.connector.InitiatorConnector.factory',
            staticmethod(self._factory)))
        self.useFixture(fixtures.MonkeyPatch(
            'os_brick.initiator.connector.get_connector_properties',
            lambda *args, host, **kwargs: {
                'host': host, 'initiator': 'iqn.2026-11.test:xen1'}))
        self.useFixture(fixtures.MonkeyPatch(
            'os_brick.encryptors.get_volume_encryptor',
            lambda root_helper, keymgr, connection_info, **values:
            Encryptor(self, connection_info, values)))
        self.useFixture(fixtures.MonkeyPatch(
            'castellan.key_manager.API', lambda conf: None))

    def _factory(self, protocol, root_helper, **options):
        return Connector(self, protocol)

    def fail(self, what):
        if what in self.failures:
            raise brick_exception.BrickException(f'no {what}')

    def content(self, volume):
        """The file with the content of a volume."""
        return os.path.join(self._directory, volume)

    def connect(self, protocol, volume):
        """Connect a volume; its device is a new one if it was not."""
        self.protocols.append(protocol)
        if volume in self.connected:
            return self.connected[volume]
        content = self.content(volume)
        if not os.path.exists(content):
            with open(content, 'wb') as file:
                file.truncate(self.size)
        device = os.path.join(
            self._directory, f'device{len(self.protocols)}')
        os.symlink(content, device)
        self.connected[volume] = device
        return device
