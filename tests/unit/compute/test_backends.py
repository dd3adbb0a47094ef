# SPDX-License-Identifier: Apache-2.0
"""A started guest's disks are looked at; failures are explained."""

import os
import subprocess
import time
from unittest import mock

from oslo_concurrency import processutils

from tests.unit import base
from tests.unit.xen import test_logs
from tests.unit.xen import test_xenstore
from xen44_driver import privsep
from xen44_driver.compute import cpulimits
from xen44_driver.compute import disklimits
from xen44_driver.compute import machine
from xen44_driver.compute import start
from xen44_driver.core import backends
from xen44_driver.core import evidence
from xen44_driver.xen import domain
from xen44_driver.xen import errors
from xen44_driver.xen.events import DomainRecord
from xen44_driver.xen.events import DomainState

ROOT = domain.Disk(target='xvda', source='/instances/disk.qcow2',
                 format='qcow2')
CDROM = domain.Disk(target='hdd', source='/iso', device='cdrom')
VOLUME = domain.Disk(target='xvdb', source='/dev/sdx', type='block')
LOOP = domain.Disk(target='xvdd', source='/raw', by_kernel=True)


class StartedTestCase(base.TestCase):
    """A guest that was started as domain 7, and a clock."""

    def setUp(self):
        super().setUp()
        self.node = base.node()
        self.guest = mock.Mock(uuid=base.UUID)
        self.guest.name = 'instance-1'
        self.record(7)
        self.look = self.patch(
            privsep, 'backends_are_open', return_value=False)
        self.read = self.patch(
            privsep, 'read_backends', return_value=test_xenstore.BEFORE)
        self.log = self.patch(privsep, 'read_log_end', return_value=None)
        self.sleep = self.fake_time(1000.0)

    def record(self, domid):
        self.node.host.record.return_value = DomainRecord(
            uuid=base.UUID, name='instance-1', id=domid,
            state=DomainState.RUNNING if domid else DomainState.SHUTDOWN)


class WaitTest(StartedTestCase):

    def wait(self, *disks):
        backends.wait_until_open(self.node.host, self.guest, disks or (ROOT,))

    def fails(self):
        return str(self.assertRaises(backends.DiskNotOpened, self.wait))

    def test_open_at_once(self):
        self.look.return_value = True
        self.wait()
        # A healthy start costs one look, and no call to libvirt.
        self.look.assert_called_once_with(7, [51712])
        for other in (self.sleep, self.log, self.read, self.guest.state):
            other.assert_not_called()

    def test_open_later(self):
        self.look.side_effect = [False, False, True]
        self.wait()
        self.assertEqual([0.1, 0.2],
                         [call.args[0] for call in self.sleep.mock_calls])
        self.guest.state.assert_not_called()

    def test_which_disks(self):
        self.look.return_value = True
        self.wait(CDROM, VOLUME, LOOP, ROOT,
                  domain.Disk(target='xvdc', source='/swap'))
        self.look.assert_called_once_with(7, [51712, 51744])

    def test_nothing_to_look_at(self):
        self.wait(CDROM, VOLUME, LOOP)
        self.record(None)
        self.wait(ROOT)
        self.node.host.record.side_effect = errors.DomainNotFound(base.UUID)
        self.wait(ROOT)
        self.look.assert_not_called()

    def test_cannot_be_opened(self):
        self.log.side_effect = [b'', test_logs.QEMU.encode()]
        message = self.fails()
        for words in ('xvda', '/instances/disk.qcow2', 'backing file',
                      '_base/ab', 'No such file'):
            self.assertIn(words, message)
        # QEMU has said so: that is not waited for.
        self.assertEqual(1, self.sleep.call_count)
        self.log.assert_called_with(
            'qemu', 'instance-1', evidence.MAX_BYTES)

    def test_another_disk_cannot_be_opened(self):
        self.look.side_effect = [False, True]
        self.log.return_value = test_logs.QEMU.replace(
            '51712', '51728').encode()
        self.wait()

    def test_nobody_opens_it(self):
        self.flags(disk_open_timeout=5, group='xen44')
        self.log.return_value = test_logs.QEMU_HEALTHY.encode()
        message = self.fails()
        for words in ('5 s', 'disk_open_timeout'):
            self.assertIn(words, message)
        self.assertNotIn('it said', message)
        self.assertEqual(1005.0, self.now)
        self.assertLess(self.look.call_count, 12)
        self.log.return_value = b'qemu-system-i386: assertion failed\n'
        self.assertIn('assertion failed', self.fails())
        self.read.return_value = test_xenstore.AFTER + (
            f'{test_xenstore.ROOT}/hotplug-error = "no script"\n')
        self.assertIn('no script', self.fails())

    def test_open_at_the_last_moment(self):
        self.read.return_value = test_xenstore.AFTER
        self.wait()

    def test_log_cannot_be_read(self):
        self.look.side_effect = [False, True]
        self.log.side_effect = PermissionError()
        self.wait()

    def test_guest_that_ended(self):
        self.sleep.side_effect = lambda seconds: self.record(None)
        self.wait()
        self.assertEqual(2, self.look.call_count)

    def test_guest_that_ended_untold(self):
        # The event is late: libvirt is asked before anybody is blamed.
        self.read.return_value = ''
        self.guest.state.side_effect = lambda: self.record(None)
        self.wait()
        self.guest.state.assert_called_once_with()

    def test_guest_that_was_removed(self):
        self.guest.state.side_effect = errors.DomainNotFound(base.UUID)
        self.wait()

    def test_guest_that_rebooted(self):
        self.sleep.side_effect = lambda seconds: self.record(8)
        self.wait()

    def test_guest_that_runs_without_backends(self):
        self.read.return_value = ''
        self.assertIn('xvda', self.fails())


class BootTest(StartedTestCase):

    def boot(self):
        start.boot(self.node, self.guest, (ROOT,), machine.Machine(
            guest_type='pv', disks=(), cpu_cap=50,
            disk_limits=disklimits.Limits(total_iops_sec=9)))

    def setUp(self):
        super().setUp()
        self.patch(self.node, 'start')
        self.limit_cpus = self.patch(cpulimits, 'apply')
        self.limit_disks = self.patch(disklimits, 'apply')

    def test_boot(self):
        self.look.return_value = True
        self.boot()
        self.node.start.assert_called_once_with(self.guest, saved=False,
                                                paused=False)
        self.guest.destroy.assert_not_called()
        self.limit_cpus.assert_called_once_with(
            self.guest, cpulimits.Limits(cap=50))
        self.limit_disks.assert_called_once_with(
            self.guest.uuid, (ROOT,), disklimits.Limits(total_iops_sec=9),
            {})

    def test_limits_not_set(self):
        self.look.return_value = True
        for limit in (self.limit_disks, self.limit_cpus):
            limit.side_effect = errors.OperationFailed('x', 'x', None, 'no')
            self.guest.reset_mock()
            self.assertRaises(errors.OperationFailed, self.boot)
            self.guest.destroy.assert_called_once_with()

    def test_off_again(self):
        self.log.return_value = test_logs.QEMU.encode()
        self.assertRaises(backends.DiskNotOpened, self.boot)
        self.guest.destroy.assert_called_once_with()
        # The first error is the one that is told.
        self.guest.destroy.side_effect = errors.OperationFailed(
            'domainDestroy', base.UUID, 1, 'no')
        self.assertRaises(backends.DiskNotOpened, self.boot)

    def late(self, *, times, words='device model did not start: -9'):
        """QEMU, or a script, does not start in time, so often."""
        error = errors.OperationFailed(
            'domainCreate', base.UUID, 1, f'libxenlight failed ({words})')
        self.node.start.side_effect = [error] * times + [None]
        self.look.return_value = True

    def test_again_if_qemu_was_late(self):
        self.late(times=4)
        self.boot()
        self.assertEqual(5, self.node.start.call_count)
        # Not at once: what keeps dom0 busy needs time to end.
        pauses = [call.args[0] for call in self.sleep.call_args_list]
        self.assertEqual(sorted(pauses), pauses)
        self.assertGreater(sum(pauses), 60)

    def test_again_if_a_script_was_late(self):
        self.late(times=1, words='killing execution of /etc/xen/scripts/block '
                  'add because of timeout; unable to add disk devices')
        self.boot()
        self.assertEqual(2, self.node.start.call_count)

    def test_not_for_ever(self):
        self.late(times=5)
        self.assertRaises(errors.OperationFailed, self.boot)
        self.assertEqual(5, self.node.start.call_count)

    def test_explained(self):
        self.node.start.side_effect = errors.OperationFailed(
            'domainCreate', base.UUID, 1, 'libxenlight failed')
        self.log.return_value = b'qemu-system-i386: cannot do so\n'
        self.assertIn('QEMU: cannot do so', str(
            self.assertRaises(errors.OperationFailed, self.boot)))
        self.node.start.assert_called_once()
        self.look.assert_not_called()


class EvidenceTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.logs = {'driver': test_logs.LIBXL.encode()}
        patcher = mock.patch.object(
            privsep, 'read_log_end',
            side_effect=lambda kind, *args: self.logs.get(kind))
        self.read = patcher.start()
        self.addCleanup(patcher.stop)

    def explain(self, message):
        def fail():
            with evidence.explained('instance-1'):
                raise errors.DomainExists(
                    'domainCreate', base.UUID, 1, message)

        with mock.patch.object(time, 'time', return_value=test_logs.START):
            error = self.assertRaises(errors.DomainExists, fail)
        self.assertEqual(('domainCreate', base.UUID, 1),
                         (error.operation, error.domain, error.code))
        return str(error)

    def test_generic_words(self):
        said = "libxenlight failed to create new domain 'instance-1'"
        message = self.explain(said)
        for words in (said, 'Post DM startup configs failed, rc=-26'):
            self.assertIn(words, message)
        self.assertNotIn('hush', message)
        self.logs['qemu'] = b'qemu-system-i386: cannot open the disk\n'
        self.assertIn('QEMU: cannot open the disk', self.explain(said))
        self.logs.clear()
        self.assertTrue(self.explain(said).endswith(said))

    def test_own_words(self):
        self.explain('domain is already running')
        self.read.assert_not_called()

    def test_bounded(self):
        self.logs['qemu'] = b'\n'.join(
            b'failed %d %s' % (number, b'x' * 500) for number in range(9))
        self.assertEqual(evidence.MAX_CHARS, len(
            evidence.evidence_of('instance-1', test_logs.START)))

    def test_never_raises(self):
        self.read.side_effect = PermissionError()
        self.assertEqual('', evidence.evidence_of('instance-1', 0))


class PrivsepTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.logs = os.path.join(self.instances, 'logs')
        os.mkdir(self.logs)
        for where, name, value in (
                (privsep.sys_admin_pctxt, 'client_mode', False),
                (privsep, 'LIBXL_LOG_DIR', self.logs),
                (privsep, 'QEMU_LOG_DIR', self.logs)):
            patcher = mock.patch.object(where, name, value)
            patcher.start()
            self.addCleanup(patcher.stop)

    def write(self, name, text):
        with open(os.path.join(self.logs, name), 'w') as log:
            log.write(text)

    def test_logs(self):
        for kind, name in (('domain', 'a.log'), ('driver', 'libxl-driver.log'),
                           ('qemu', 'qemu-dm-a.log')):
            self.assertIsNone(privsep.read_log_end(kind, 'a', 10))
            self.write(name, f'0123456789{kind}')
            self.assertEqual(f'89{kind}'.encode(), privsep.read_log_end(
                kind, 'a', len(kind) + 2))
            self.assertIsNotNone(privsep.read_log_end(
                kind, 'a', 10, time.time() - 60))
            self.assertIsNone(privsep.read_log_end(
                kind, 'a', 10, time.time() + 60))

    def test_no_other_files(self):
        for name in ('../x', '/etc/shadow', '', 'a\0b', 'a/../b'):
            for kind in privsep.LogKind:
                self.assertRaises(ValueError, privsep.read_log_end, kind,
                                  name, 1)
        self.assertRaises(ValueError, privsep.read_log_end, 'shadow', 'a', 1)
        os.symlink('/etc/hostname', os.path.join(self.logs, 'link.log'))
        self.assertRaises(OSError, privsep.read_log_end, 'domain', 'link', 1)
        # Neither is one that never ends, or that nobody writes to.
        os.mkfifo(os.path.join(self.logs, 'fifo.log'))
        self.assertIsNone(privsep.read_log_end('domain', 'fifo', 1))

    def run_(self, function, *args, **values):
        with mock.patch.object(processutils, 'execute', **values) as run:
            return function(*args), run.call_args.args

    def gives(self, function, *args, stderr):
        """What a function makes of a program that fails."""
        return self.run_(
            function, *args,
            side_effect=processutils.ProcessExecutionError(stderr=stderr))[0]

    def test_backends(self):
        self.assertEqual(
            ('x', ('xenstore-ls', '-f', '/local/domain/0/backend/qdisk/7')),
            self.run_(privsep.read_backends, 7, return_value=('x', '')))
        _, command = self.run_(
            privsep.read_backends, 7, 'vbd', return_value=('x', ''))
        self.assertEqual('/local/domain/0/backend/vbd/7', command[2])
        path = '/local/domain/0/backend/qdisk/7'
        self.assertEqual(
            (True, ('xenstore-read', f'{path}/51712/sectors',
                    f'{path}/51728/sectors')),
            self.run_(privsep.backends_are_open, 7, [51712, 51728],
                      return_value=('8\n8\n', '')))

    def test_no_backends(self):
        self.assertEqual('', self.gives(
            privsep.read_backends, 7,
            stderr='xenstore-ls: xs_directory (/local/domain/0/backend/qdisk/'
                   '7): No such file or directory\n'))
        self.assertIs(False, self.gives(
            privsep.backends_are_open, 7, [51712],
            stderr="xenstore-read: couldn't read path /local/domain/0/"
                   "backend/qdisk/7/51712/sectors\n"))

    def test_no_xenstore(self):
        for function, *args in ((privsep.read_backends, 7),
                                (privsep.backends_are_open, 7, [51712])):
            self.assertRaises(
                processutils.ProcessExecutionError, self.gives, function,
                *args, stderr='xenstore: xs_open: Permission denied\n')
            self.assertRaises(
                TimeoutError, self.run_, function, *args,
                side_effect=subprocess.TimeoutExpired(['xenstore-ls'], 10))

    def test_no_other_paths(self):
        for function, *args in (
                (privsep.read_backends, '7/../8'),
                (privsep.read_backends, 7, 'console'),
                (privsep.backends_are_open, '../7', [1]),
                (privsep.backends_are_open, 7, ['1/../2'])):
            self.assertRaises(ValueError, self.run_, function, *args,
                              return_value=('x', ''))
