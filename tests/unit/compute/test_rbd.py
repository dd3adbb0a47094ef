# SPDX-License-Identifier: Apache-2.0
"""Volumes of Ceph, with os-brick's real connector.

The doubles are the devices of dom0's kernel, and what its programs do. The
properties are such as Cinder's driver for RBD returns them.
"""

import errno
from unittest import mock

import fixtures
from os_brick import exception as brick_exception
from oslo_concurrency import processutils
from oslo_serialization import jsonutils

from tests.unit import base
from tests.unit.compute import connectors
from xen44_driver import privsep
from xen44_driver.compute import connections
from xen44_driver.compute import faults
from xen44_driver.core import backends

IMAGE = f'volume-{base.VOLUME}'
LINK = f'/dev/rbd/volumes/{IMAGE}'
DEVICE = '/dev/rbd3'
# Whom the kernel asks, and as whom.
CLUSTER = '--id cinder --mon_host 192.0.2.1:6789,[2001:db8::1]:6789'


class RbdTest(connectors.ConnectorCase):

    def setUp(self):
        super().setUp()
        self.mapped = False
        self.busy = 0
        self.programs = {'rbd', 'udevd'}
        self.double('/dev/rbd', {
            'os.path.islink': lambda path: path in self.links(),
            'os.path.exists': lambda path: self.mapped,
            'os.path.realpath': lambda path: DEVICE,
            'os.stat': self.stat})
        self.info = base.connection_info(
            kind='rbd', name=f'volumes/{IMAGE}',
            hosts=['192.0.2.1', '2001:db8::1'], ports=['6789', '6789'],
            cluster_name='ceph', auth_enabled=True, auth_username='cinder',
            secret_type='ceph', secret_uuid=base.UUID, discard=True,
            qos_specs=None, access_mode='rw', encrypted=False,
            cacheable=False)

    def links(self):
        """What udev shows."""
        return {LINK} if self.mapped and 'udevd' in self.programs else set()

    def stat(self, path):
        if path not in self.links():
            raise FileNotFoundError(errno.ENOENT, 'No such file', path)

    def program(self, *command):
        match command:
            case ('which', 'rbd') if 'rbd' not in self.programs:
                raise processutils.ProcessExecutionError(exit_code=1)
            case ('rbd', 'map', *_):
                self.mapped = True
            case ('rbd', 'showmapped', *_):
                return jsonutils.dumps([{
                    'id': '3', 'pool': 'volumes', 'namespace': '',
                    'name': IMAGE, 'snap': '-', 'device': DEVICE,
                }] if self.mapped else []), ''
            case ('rbd', 'unmap', *_):
                if self.busy:
                    self.busy -= 1
                    raise processutils.ProcessExecutionError(
                        cmd='rbd unmap', exit_code=errno.EBUSY,
                        stderr='rbd: unmap failed: (16) Device or resource '
                               'busy')
                self.mapped = False
        return None

    def test_life(self):
        self.connect()
        self.assertEqual([f'rbd map {IMAGE} --pool volumes {CLUSTER}'],
                         self.ran('map '))
        self.assertEqual(LINK, self.info['data']['device_path'])
        self.assertEqual(LINK, privsep.volume_device(
            base.UUID, base.VOLUME))

        # Every start connects it anew.
        self.connect()
        self.assertEqual(1, len(self.ran('map ')))
        # As after this host was booted anew.
        self.mapped = False
        self.connect()
        self.assertEqual(2, len(self.ran('map ')))

        # The kernel has heard of it from Ceph.
        with mock.patch('os_brick.initiator.connectors.rbd.open',
                        mock.mock_open(read_data='2048\n'),
                        create=True) as sysfs:
            self.assertEqual(2048, connections.extend(
                'context', self.instance, self.info))
        sysfs.assert_called_once_with('/sys/devices/rbd/3/size')

        connections.disconnect(self.instance, self.info)
        self.assertFalse(self.mapped)
        self.assertEqual([f'rbd unmap {DEVICE} {CLUSTER}'],
                         self.ran('unmap '))
        # It is safe to repeat.
        connections.disconnect(self.instance, self.info)
        self.assertEqual(1, len(self.ran('unmap ')))

    def test_kernel_still_has_it_open(self):
        self.useFixture(fixtures.MockPatchObject(backends, '_FIRST_PAUSE', 0))
        self.connect()
        self.busy = 2
        connections.disconnect(self.instance, self.info)
        self.assertEqual(3, len(self.ran('unmap ')))
        self.assertFalse(self.mapped)

    def test_kernel_keeps_it_open(self):
        self.useFixture(fixtures.MockPatchObject(
            connections, 'BUSY_TIMEOUT', 0))
        self.connect()
        self.busy = 1

        def detach():
            with faults.translated('detach volume', self.instance):
                connections.disconnect(self.instance, self.info)

        raised = self.assertRaises(faults.OperationFailed, detach)
        self.assertIn('Device or resource busy', str(raised))
        # Nova can have it done again.
        detach()
        self.assertFalse(self.mapped)

    def test_another_failure_is_not_repeated(self):
        self.connect()
        with mock.patch('os_brick.privileged.rootwrap.execute',
                        side_effect=processutils.ProcessExecutionError(
                            exit_code=errno.ENOENT)) as execute:
            self.assertRaises(
                processutils.ProcessExecutionError, connections.disconnect,
                self.instance, self.info, force=True)
        self.assertEqual(1, execute.call_count)

    def test_no_program(self):
        self.programs.discard('rbd')
        raised = self.assertRaises(brick_exception.BrickException,
                                   self.connect)
        self.assertIn('ceph-common', str(raised))
        self.assertFalse(privsep.volume_is_linked(base.VOLUME))

    def test_udev_makes_no_link(self):
        """Its rules come with the program."""
        self.programs.discard('udevd')
        raised = self.assertRaises(FileNotFoundError, self.connect)
        self.assertIn(LINK, str(raised))
        # As the operation that failed does.
        connections.give_up(self.instance, self.info)
        self.assertFalse(self.mapped)
