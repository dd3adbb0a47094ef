# SPDX-License-Identifier: Apache-2.0
"""``xen44-host probe-nested``: its guest, and what becomes of the result."""

import ctypes
import errno
import fcntl
import gzip
import json
import lzma
import mmap
import os
import pathlib
import stat
import subprocess
import time
import types

import libvirt
from lxml import etree

from tests.unit import schema
from tests.unit.cmd import base
from tests.unit.xen import fake
from xen44_driver.cmd import nestedguest
from xen44_driver.cmd import nestedinit
from xen44_driver.cmd import nestedprobe
from xen44_driver.cmd import report
from xen44_driver.compute import proof

HERE = proof.Platform(xen='4.20.4', build='Thu Sep 11', cpu='EPYC')


class ProbeTest(base.CommandTestCase):
    """The guest says on its console what a test lets it say."""

    def setUp(self):
        super().setUp()
        self.directory = pathlib.Path(self.instances)
        self.proof = self.directory / 'xen44' / 'nested-hvm.json'
        self.patch(proof, 'DIRECTORY', str(self.proof.parent))
        self.platform = self.patch(proof, 'platform', return_value=HERE)
        self.patch(nestedguest, 'kernel', return_value='/boot/vmlinuz')
        self.initrd = self.patch(nestedguest, 'initrd',
                                 return_value=b'initrd')
        self.umask = self.patch(os, 'umask')
        self.fake_time()
        self.at_sleep = self.write
        #: By the seconds that the guest has run.
        self.said = {}
        self.xml = []
        define = fake.Connection.defineXML

        def defined(connection, xml):
            self.xml.append(etree.fromstring(xml))
            return define(connection, xml)

        self.patch(fake.Connection, 'defineXML', defined)

    def write(self):
        """Write to the console what the guest says then."""
        work, = self.directory.glob('xen44/xen44-nested-probe-*')
        with open(work / 'console.log', 'a') as file:
            file.write(self.said.pop(self.now, ''))

    def probe(self, *argv):
        return self.run_host('probe-nested', '--yes', *argv)

    def assert_nothing_is_left(self):
        self.assertEqual({}, self.domains())
        self.assertEqual([], [
            *self.directory.glob('xen44/xen44-nested-probe-*')])

    def domains(self):
        return {state.name: state for state in self.libvirt.domains.values()
                if state.name != 'Domain-0'}

    def test_it_works(self):
        self.said = {1: 'SeaBIOS\n\x1b[2J',
                     3: f'{nestedinit.PASSED}\r\n'}
        status, text = self.probe()
        self.assertEqual((0, 'Make the guest\n'
                          'Start it, and wait for what it says\n'
                          'A guest has run a guest: Xen 4.20.4 '
                          '(Thu Sep 11) on EPYC.\n'), (status, text))
        self.assertIsNone(proof.NESTED_HVM.problem(HERE))
        self.assertEqual(3, self.now)
        self.initrd.assert_called_once_with('svm')
        self.umask.assert_called_once_with(0o022)
        self.assert_nothing_is_left()

    def test_its_domain(self):
        self.said = {1: f'{nestedinit.PASSED}\n'}
        self.flags(cpu_shared_set='1', group='compute')
        self.probe()
        domain, = self.xml
        schema.assert_valid(etree.tostring(domain, encoding='unicode'))
        self.assertEqual('svm', domain.find('cpu/feature').get('name'))
        self.assertEqual('/boot/vmlinuz', domain.findtext('os/kernel'))
        self.assertEqual(['1'], [pin.get('cpuset') for pin
                                 in domain.iterfind('cputune/vcpupin')])
        # It is none of Nova's.
        self.assertIsNone(domain.find('metadata'))

    def test_broken(self):
        """An old result does not count any more."""
        proof.NESTED_HVM.keep(HERE)
        self.said = {1: 'module kvm: \x1b[1mbad\n',
                     2: f'{nestedinit.FAILED}OSError(95, "no")\n'}
        status, text = self.probe()
        self.assertEqual(1, status)
        self.assert_golden('probe-nested-broken.txt', text)
        self.assertFalse(self.proof.exists())
        self.assert_nothing_is_left()

    def test_json(self):
        self.said = {2: f'booted\n{nestedinit.PASSED}\n'}
        status, text = self.run_json('probe-nested', '--yes')
        self.assertEqual(0, status)
        self.assertEqual({
            'host': 'xen1', 'works': True, 'problem': None,
            'platform': {'xen': '4.20.4', 'build': 'Thu Sep 11',
                         'cpu': 'EPYC', 'firmware': ''},
            'console': ['booted', nestedinit.PASSED]}, json.loads(text))
        self.said = {self.now + 1: f'{nestedinit.FAILED}no\n'}
        status, text = self.run_json('probe-nested', '--yes')
        self.assertEqual((1, 'no'), (status, json.loads(text)['problem']))

    def test_silent(self):
        # A line without an end may have another one.
        self.said = {1: nestedinit.PASSED[:9]}
        status, text = self.probe('--timeout', '7')
        self.assertEqual(1, status)
        self.assertIn('It does not work: the guest has not said how it went '
                      'in 7 s.', text)
        self.assertEqual(7, self.now)
        self.assert_nothing_is_left()

    def test_ended(self):
        def end():
            self.write()
            state, = self.domains().values()
            self.libvirt.stop(state)

        self.at_sleep = end
        self.said = {1: 'HVM Loader\n'}
        status, text = self.probe()
        self.assertEqual(1, status)
        self.assertIn('| HVM Loader', text)
        self.assertIn('has ended, and has not said why', text)
        self.assertEqual(1, self.now)

    def test_panic(self):
        """Xen starts a guest anew whose kernel panics."""
        self.said = {1: '[ 2.1] Kernel panic - not syncing: no init\n'}
        status, text = self.probe()
        self.assertEqual((1, 1), (status, self.now))
        self.assertIn("It does not work: the guest's kernel says: Kernel "
                      'panic - not syncing: no init.', text)
        self.assert_nothing_is_left()

    def test_xen_refuses_it(self):
        self.libvirt.fail['create'] = fake.error(
            libvirt.VIR_ERR_INTERNAL_ERROR, 'libxenlight failed')
        status, text = self.probe()
        self.assertEqual(1, status)
        self.assertIn('cannot be started', text)
        self.assertIn('libxenlight failed', text)
        self.assertFalse(self.proof.exists())
        self.assert_nothing_is_left()

    def test_one_is_left(self):
        """Of a command that was killed."""
        left = self.libvirt.add(7, ours=False)
        left.name = nestedprobe.NAME
        self.said = {1: f'{nestedinit.PASSED}\n'}
        self.assertEqual(0, self.probe()[0])
        self.assert_nothing_is_left()

    def test_directory_is_left(self):
        left = self.proof.parent / f'{nestedprobe.NAME}-abc'
        left.mkdir(parents=True)
        (left / 'initrd').write_bytes(b'initrd')
        self.said = {1: f'{nestedinit.PASSED}\n'}
        self.assertEqual(0, self.probe()[0])
        self.assert_nothing_is_left()

    def test_one_at_a_time(self):
        self.proof.parent.mkdir()
        descriptor = os.open(self.proof.parent, os.O_RDONLY)
        self.addCleanup(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self.assertEqual(
            (2, 'xen44-host: another probe runs on this host\n'),
            self.probe())

    def test_what_is_missing_costs_no_proof(self):
        proof.NESTED_HVM.keep(HERE)
        self.initrd.side_effect = report.CannotWork('no modules')
        status, text = self.probe()
        self.assertEqual(2, status)
        self.assertIn('no modules', text)
        self.assertIsNone(proof.NESTED_HVM.problem(HERE))

    def test_nobody_agrees(self):
        proof.NESTED_HVM.keep(HERE)
        self.assertEqual(
            (2, 'xen44-host: there is no terminal to ask on: add --yes\n'),
            self.run_host('probe-nested'))
        self.answer('n')
        status, text = self.run_host('probe-nested')
        self.assertEqual(1, status)
        self.assertIn('may crash xen1', text)
        self.assertTrue(text.endswith('Nothing was done.\n'), text)
        self.assertIsNone(proof.NESTED_HVM.problem(HERE))

    def test_cannot_be_tried(self):
        self.platform.return_value = None
        self.assertEqual(
            (2, 'xen44-host: this is not the dom0 of a Xen host\n'),
            self.probe())
        self.patch(os, 'geteuid', lambda: 1)
        self.assertEqual((2, 'xen44-host: run it as root\n'), self.probe())


class GuestTest(base.CommandTestCase):
    """What the guest is made of."""

    def setUp(self):
        super().setUp()
        self.directory = pathlib.Path(self.instances)

    def modules(self, text, feature='svm'):
        self.ran = []
        self.patch(nestedguest, '_run', lambda *command, env=None: (
            self.ran.append(command), text)[1])
        return [*nestedguest._modules(feature)]

    def test_modules(self):
        plain = self.directory / 'kvm.ko'
        plain.write_bytes(b'kvm')
        packed = self.directory / 'kvm-amd.ko.xz'
        packed.write_bytes(lzma.compress(b'amd'))
        zipped = self.directory / 'ccp.ko.gz'
        zipped.write_bytes(gzip.compress(b'ccp'))
        self.assertEqual(
            [('/modules', stat.S_IFDIR | 0o755, b''),
             ('/modules/01-ccp.ko', 0o644, b'ccp'),
             ('/modules/02-kvm.ko', 0o644, b'kvm'),
             ('/modules/03-kvm-amd.ko', 0o644, b'amd')],
            self.modules(f'builtin irqbypass\ninsmod {zipped}\n'
                         f'insmod {plain} \ninsmod {packed} nested=1\n'))
        self.assertEqual('kvm-amd', self.ran[0][-1])
        self.modules('', 'vmx')
        self.assertEqual('kvm-intel', self.ran[0][-1])

    def test_packed_in_another_way(self):
        self.assertRaises(report.CannotWork, self.modules,
                          'insmod /m/kvm.ko.zst')

    def test_program_fails(self):
        raised = self.assertRaises(report.CannotWork, nestedguest._run,
                                   'sh', '-c', 'echo why >&2; exit 1')
        self.assertEqual('sh: why', str(raised))
        self.assertRaises(report.CannotWork, nestedguest._run, '/no/such')

    def test_kernel(self):
        self.patch(os, 'uname',
                   lambda: types.SimpleNamespace(release='no-such'))
        raised = self.assertRaises(report.CannotWork, nestedguest.kernel)
        self.assertIn('/boot/vmlinuz-no-such', str(raised))

    def test_python(self):
        """It has all that the guest's init imports."""
        found = {path: content for path, _, content
                 in nestedguest._python()}
        self.assertEqual(found['/init'].splitlines()[0],
                         f'#!{os.path.realpath(base.sys.executable)} '
                         '-sS'.encode())
        names = {pathlib.Path(path).name for path in found}
        self.assertLessEqual({'os.py', 'aliases.py', 'utf_8.py',
                              '__future__.py', 'struct.py',
                              'ld-linux-x86-64.so.2', 'libc.so.6'}, names)
        self.assertTrue(any(name.startswith('_ctypes') for name in names))

    def test_archive(self):
        """As cpio's newc format is, which Linux reads."""
        data = nestedguest.archive([
            ('/init', 0o755, b'abcde'), ('/a/b/c', 0o644, b''),
            ('/modules', stat.S_IFDIR | 0o755, b'')])
        found, place = [], 0
        while place < len(data):
            self.assertEqual(b'070701', data[place:place + 6])
            fields = [int(data[place + at:place + at + 8], 16)
                      for at in range(6, 110, 8)]
            mode, size, length = fields[1], fields[6], fields[11]
            name = data[place + 110:place + 110 + length]
            place += -(-(110 + length) // 4) * 4
            found.append((name, mode, data[place:place + size]))
            place += -(-size // 4) * 4
        directory = stat.S_IFDIR | 0o755
        self.assertEqual(
            [(b'dev\0', directory, b''),
             (b'init\0', stat.S_IFREG | 0o755, b'abcde'),
             (b'a\0', directory, b''), (b'a/b\0', directory, b''),
             (b'a/b/c\0', stat.S_IFREG | 0o644, b''),
             (b'modules\0', directory, b''), (b'TRAILER!!!\0', 0, b'')],
            found)


class Kvm:
    """KVM, as far as the guest's init uses it.

    :ivar exits: each reason to leave the guest, with what it writes.
    """

    KVM, MACHINE, VCPU = 3, 4, 5

    def __init__(self, exits):
        self.exits = exits
        self.version = 12
        self.code = self.registers = None
        self.segment = None
        self.state = mmap.mmap(-1, mmap.PAGESIZE)

    def ioctl(self, file, request, argument=0):
        name, = (name for name, value in vars(nestedinit).items()
                 if value == request and name.isupper())
        return getattr(self, name.lower())(file, argument)

    def _get_api_version(self, file, argument):
        return self.version

    def _create_vm(self, file, argument):
        return self.MACHINE

    def _set_tss_addr(self, file, argument):
        assert file == self.MACHINE
        return 0

    def _set_user_memory_region(self, file, argument):
        assert file == self.MACHINE
        slot, flags, self.place, size, here = nestedinit.struct.unpack(
            'I I Q Q Q', argument)
        assert (slot, flags) == (0, 0)
        self.code = ctypes.string_at(here, size)
        return 0

    def _create_vcpu(self, file, argument):
        return self.VCPU

    def _get_vcpu_mmap_size(self, file, argument):
        return mmap.PAGESIZE

    def _get_sregs(self, file, argument):
        argument[:] = b'\x11' * len(argument)
        return 0

    def _set_sregs(self, file, argument):
        # Base and selector; what is around them stays.
        self.segment = argument[:8], argument[12:14]
        assert argument[8:12] == b'\x11' * 4
        assert argument[14:] == b'\x11' * (0x138 - 14)
        return 0

    def _set_regs(self, file, argument):
        self.registers = nestedinit.struct.unpack('18Q', argument)
        return 0

    def _run(self, file, argument):
        assert file == self.VCPU
        if not self.exits:
            raise OSError(errno.EFAULT, 'no')
        reason, written = self.exits.pop(0)
        self.state[8:12] = reason.to_bytes(4, 'little')
        self.state[33] = 1
        self.state[36:40] = len(written).to_bytes(4, 'little')
        self.state[40:48] = (1024).to_bytes(8, 'little')
        self.state[1024:1024 + len(written)] = written
        return 0


class InitTest(base.CommandTestCase):
    """The guest's init, beside a double of KVM."""

    def start(self, *exits):
        self.kvm = Kvm([*exits])
        self.patch(os, 'open', return_value=Kvm.KVM)
        self.patch(fcntl, 'ioctl', self.kvm.ioctl)
        memory = mmap.mmap
        self.patch(mmap, 'mmap', lambda file, size: (
            memory(-1, size) if file == -1 else self.kvm.state))

    def test_runs_to_its_end(self):
        self.start((2, b'*'), (5, b''))
        self.assertEqual(b'*', nestedinit.run_guest())
        self.assertEqual(0x1000, self.kvm.place)
        self.assertEqual(nestedinit._CODE, self.kvm.code[
            :len(nestedinit._CODE)])
        self.assertEqual((0x1000, 2), self.kvm.registers[16:])
        self.assertEqual((bytes(8), bytes(2)), self.kvm.segment)

    def test_does_something_else(self):
        for exits, says in (([(9, b'')], 'reason 9'),
                            ([(2, b'a')] * 99, 'does not halt')):
            self.start(*exits)
            raised = self.assertRaises(RuntimeError, nestedinit.run_guest)
            self.assertIn(says, str(raised))
        self.start()
        self.assertRaises(OSError, nestedinit.run_guest)
        self.start()
        self.kvm.version = 11
        raised = self.assertRaises(RuntimeError, nestedinit.run_guest)
        self.assertIn('API 11', str(raised))

    def main(self):
        self.calls = []

        class Library:
            """Notes what it is asked."""

            def __getattr__(library, name):
                def call(*arguments):
                    self.calls.append((name, arguments))
                    return -1 if name == 'syscall' else 0
                return call

        self.patch(ctypes, 'CDLL', lambda name, use_errno: Library())
        self.patch(os, 'listdir', return_value=['02-b.ko', '01-a.ko'])
        self.patch(os, 'close')
        self.patch(time, 'sleep')
        out = self.patch(base.sys, 'stdout', base.io.StringIO())
        nestedinit.main()
        return out.getvalue().splitlines()

    def test_verdicts(self):
        for exits, last in (
                ([(2, b'*'), (5, b'')], nestedinit.PASSED),
                ([(5, b'')], f"{nestedinit.FAILED}RuntimeError(\"it writes "
                             "b''\")"),
                ([], f"{nestedinit.FAILED}OSError(14, 'no')")):
            self.start(*exits)
            lines = self.main()
            self.assertEqual(last, lines[-1])
            # A module that is not taken does not keep it from going on.
            self.assertEqual(['01-a.ko', '02-b.ko'], [
                line.split(':')[0] for line in lines[:2]])
            self.assertEqual(
                ['mount', 'syscall', 'syscall', 'reboot'],
                [name for name, _ in self.calls])

    def test_by_itself(self):
        """It needs nothing that is not Python's."""
        subprocess.run(
            [base.sys.executable, '-ISc', 'import runpy, sys; '
             f'runpy.run_path({nestedinit.__file__!r})'], check=True)
