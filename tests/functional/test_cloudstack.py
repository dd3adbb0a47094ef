# SPDX-License-Identifier: Apache-2.0
"""CloudStack's payloads, through the entry point and the real program.

The double of the management server runs the entry point, a double of ssh runs
the program, and libvirt is a double.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import uuid

import ddt
import fixtures
import libvirt
from lxml import etree
from oslotest import base
from testtools import testcase

from labkit import provisioner
from tests.cloudstack import kills
from tests.cloudstack import rfb
from tests.functional import base as functional
from xen44_driver.cloudstack import entrypoint

ROOT = pathlib.Path(__file__).parents[2]
UUID = '7d1f6a52-93b4-4c0e-8a57-0b6f4c2d9e11'
NAME = 'i-4-231-VM'
OTHER = 'c0a8f5c1-0b3e-4f1e-9f4e-6f1f3c5b7a11'
MIB = 1024 ** 2

#: Somebody else's domains: Nova's, and one made by hand.
FOREIGN = '''<domain type="xen"><name>{name}</name><uuid>{uuid}</uuid>
<metadata>{metadata}</metadata><memory>256</memory><vcpu>1</vcpu>
<os><type>linux</type></os><devices/></domain>'''
NOVAS = ('<xen44:instance xmlns:xen44="urn:xen44-driver:instance:1">'
         '<xen44:name>web</xen44:name></xen44:instance>')

#: sshd, as far as cloudstack_dom0 does not do it.
CLIENT = '''
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as client:
    client.connect(sys.argv[1])
    socket.send_fds(client, [json.dumps(dict(os.environ)).encode()], (0, 1, 2))
    sys.exit(int(client.recv(9) or 255))
'''

#: systemd-run, which starts the program on the doubles, and systemctl.
SYSTEMD = '''#!{python} -IS
import os, pathlib, signal, socket, subprocess, sys, time
run = pathlib.Path('{place}/run')

def alive(pid):
    try:
        return bool(pathlib.Path(f'/proc/{{pid}}/cmdline').read_bytes())
    except OSError:
        return False

if sys.argv[0].endswith('systemctl'):
    pid = run / f'{{sys.argv[-1]}}.pid'
    if not pid.exists() or not alive(number := int(pid.read_text())):
        sys.exit(5 if sys.argv[1] == 'stop' else 3)
    if sys.argv[1] == 'stop':
        os.kill(number, signal.SIGTERM)
        while alive(number):
            time.sleep(0.02)
    sys.exit()
[unit] = [word[7:] for word in sys.argv if word.startswith('--unit=')]
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
    notified.bind(f'{{run}}/{{unit}}.notify')
    service = subprocess.Popen(
        ['{python}', '-W', 'ignore', '{root}/tests/functional/'
         'cloudstack_dom0.py', '{place}',
         *sys.argv[sys.argv.index('--') + 2:]],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True, cwd='/',
        env={{'PATH': os.defpath, 'PYTHONPATH': '{root}',
             'NOTIFY_SOCKET': f'{{run}}/{{unit}}.notify'}})
    (run / f'{{unit}}.pid').write_text(str(service.pid))
    notified.settimeout(0.1)
    while service.poll() is None:
        try:
            notified.recv(9)
            break
        except TimeoutError:
            pass
    (run / f'{{unit}}.notify').unlink()
sys.exit(service.poll() or 0)
'''

CONF = '''[DEFAULT]
use_syslog = false
log_file = {place}/log
debug = true
[xen44]
console_log_dir = {place}/consoles
disk_open_timeout = 2
[xen44_x86_64]
loader_directory = {place}
[xen44_cloudstack]
storage_path = {place}/vms
images_directory = {place}/images
vnc_listen = 127.0.0.1
vnc_port_range = 21000:30000
lock_timeout = 2
stop_timeout = 1
mkisofs_cmd = {place}/mkisofs
'''


class Dom0Fixture(fixtures.Fixture):
    """A directory with a dom0 and an extension."""

    def _setUp(self):
        self.place = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        for name in ('images', 'consoles', 'net/ovsbr0', 'run', 'payloads',
                     'bin'):
            (self.place / name).mkdir(parents=True)
        (self.place / 'run').chmod(0o700)
        for platform in ('x86_64-xen', 'i386-xen_pvh'):
            (self.place / f'grub-{platform}.bin').write_bytes(b'grub')
        (self.place / 'xen44.conf').write_text(CONF.format(place=self.place))
        self.image('debian-13-pvh.qcow2')
        self.entry = self.place / 'xen44.py'
        self.entry.write_text(
            pathlib.Path(entrypoint.__file__).read_text())
        for name in ('id_ed25519', 'known_hosts'):
            (self.place / name).write_text('')
        self._script(self.entry)
        # What sshd makes of the key: the command, whatever was asked for.
        self.script(
            'bin/ssh', f'#!/bin/sh\necho "$@" >> {self.place}/ssh.log\n'
            f'test -e {self.place}/unreachable && {{\n'
            '    echo "ssh: connect to host: No route to host" >&2\n'
            '    exit 255\n'
            '}\n'
            'echo "Warning: noise" >&2\n'
            f'exec {sys.executable} -I -S -c "$CLIENT" {self.place}/dom0\n')
        dom0 = subprocess.Popen(
            [sys.executable, '-W', 'ignore',
             ROOT / 'tests/functional/cloudstack_dom0.py', self.place],
            cwd=ROOT, env={**os.environ, 'PYTHONPATH': str(ROOT)})
        self.addCleanup(dom0.wait)
        self.addCleanup(dom0.kill)
        while not (self.place / 'dom0').exists():
            assert dom0.poll() is None
            time.sleep(0.05)
        self.addCleanup(self._end_services)
        for name in ('systemd-run', 'systemctl'):
            self.script(f'bin/{name}', SYSTEMD.format(
                python=sys.executable, root=ROOT, place=self.place))
        self.script(
            'mkisofs', '#!/bin/sh\nfor tree; do :; done\n'
            'cat "$tree"/* > "$3"\n')

    def _end_services(self):
        for path in (self.place / 'run').glob('*.pid'):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(path.read_text()), signal.SIGKILL)

    @staticmethod
    def _script(path):
        path.chmod(0o755)

    def script(self, name, text):
        (self.place / name).write_text(text)
        self._script(self.place / name)

    def image(self, name, size='8M'):
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2',
                        self.place / 'images' / name, size], check=True)

    @property
    def state(self):
        """What libvirtd has."""
        path = self.place / 'libvirt.json'
        return json.loads(path.read_text()) if path.exists() else {
            'domains': []}

    def set(self, **values):
        """Change what libvirtd has, or how it behaves."""
        (self.place / 'libvirt.json').write_text(
            json.dumps({**self.state, **values}))

    def domains(self):
        """Its domains by name: their definitions, and whether they run."""
        return {etree.fromstring(domain['xml']).findtext('name'):
                (etree.fromstring(domain['xml']), domain['id'] != -1)
                for domain in self.state['domains']}

    def add_foreign(self, name, uuid, metadata=''):
        self.set(domains=[*self.state['domains'], {
            'xml': FOREIGN.format(name=name, uuid=uuid, metadata=metadata),
            'id': 900, 'running': libvirt.VIR_DOMAIN_RUNNING, 'reason': 0}])

    def files(self):
        """Files of VMs, relative to the directory of all."""
        vms = self.place / 'vms'
        return sorted(
            str(path.relative_to(vms)) for path in vms.rglob('*')
            if path.is_file()
            and path.relative_to(vms).parts[0] not in ('_base', 'locks'))


class CloudStackTestCase(testcase.WithAttributes, base.BaseTestCase):

    def setUp(self):
        super().setUp()
        self.dom0 = self.useFixture(Dom0Fixture())
        self.server = self.management()

    def management(self, version='4.22.1', **environment):
        return provisioner.Provisioner(
            self.dom0.entry, self.dom0.place / 'payloads', version,
            environment={
                'PATH': f'{self.dom0.place}/bin:{os.environ["PATH"]}',
                'TMPDIR': str(self.dom0.place), 'CLIENT': CLIENT,
                **environment},
            # The key and the known hosts are beside the entry point.
            details={'extension': {}})

    def do(self, action, **options):
        """Run an action that succeeds."""
        answer = self.server.act(action, **options)
        self.assertTrue(answer.success, answer)
        return answer

    def refused(self, action, *words, **options):
        """Run an action that fails; its error has some words."""
        error = self.server.act(action, **options).error
        for word in words:
            self.assertIn(word, error)
        return error

    def assert_nothing_left(self):
        self.assertEqual({}, self.dom0.domains())
        self.assertEqual([], self.dom0.files())
        self.assertEqual([], list((self.dom0.place / 'consoles').iterdir()))

    def power(self):
        return self.server.act('status').power_state


def detail(name, value):
    """A change of a payload: a detail of the VM."""
    def change(payload):
        payload['externaldetails']['virtualmachine'][name] = value
    return change


@ddt.ddt
class LifecycleTest(CloudStackTestCase):

    @ddt.data(*provisioner.VERSIONS)
    def test_lifecycle(self, version):
        self.server = self.management(version)
        self.assertEqual('', self.do('prepare').text)
        self.assert_nothing_left()
        self.do('create')
        domain, runs = self.dom0.domains()[NAME]
        self.assertTrue(runs)
        self.assertEqual(
            (UUID, '2048', '2', '02:01:00:d9:00:0a', 'ovsbr0', '1204'),
            (domain.findtext('uuid'), domain.findtext('memory'),
             domain.findtext('vcpu'),
             *(domain.find(f'devices/interface/{path}').get(name)
               for path, name in (
                   ('mac', 'address'), ('source', 'bridge'),
                   ('vlan/tag', 'id')))))
        self.assertEqual([f'{UUID}/disk.config', f'{UUID}/disk.qcow2',
                          f'{UUID}/vm.json'], self.dom0.files())
        self.assertEqual('on', self.power())
        if version == '4.22.1':
            self.assertEqual({NAME: 'on'}, self.server.act('statuses').report)
        self.do('stop')
        self.assertEqual('off', self.power())
        if version == '4.22.1':
            self.assertEqual({NAME: 'off'}, self.server.act('statuses').report)
        self.do('stop')
        self.do('start')
        self.do('start')
        before = self.dom0.state['domains'][0]['id']
        self.do('reboot')
        self.assertNotEqual(before, self.dom0.state['domains'][0]['id'])
        self.assertEqual('on', self.power())
        self.do('stop')
        self.do('delete')
        self.assert_nothing_left()
        self.assertEqual('off', self.power())
        self.do('stop')
        self.do('delete')

    @functional.slow
    def test_seed(self):
        def key(payload):
            payload['cloudstack.vm.details']['details'][
                'SSH.PublicKey'] = 'ssh-ed25519 AAAA user'
        self.do('create', change=key)
        seed = self.dom0.place / 'vms' / UUID / 'disk.config'
        text = seed.read_text()
        for words in ('ssh-ed25519 AAAA user', '10.20.0.37/24',
                      '02:01:00:d9:00:0a', '192.0.2.53', 'i-4-231-vm'):
            self.assertIn(words, text)

    @functional.slow
    def test_private(self):
        self.do('create')
        for path in (self.dom0.place / 'vms').rglob('*'):
            mode = stat.S_IMODE(path.stat().st_mode)
            self.assertEqual(0o700 if path.is_dir() else 0o600,
                             mode, path)

    @functional.slow
    def test_no_secrets(self):
        """Passwords are in no log, no error and no command line."""
        def change(payload):
            detail('guest_type', 'hvm')(payload)
            payload['externaldetails']['host']['token'] = 'h0st-t0ken'

        def spoil(payload):
            change(payload)
            detail('image', '../x')(payload)

        self.do('create', change=change)
        error = self.refused('create', change=spoil)
        answer = self.do('getconsole', change=change)
        secret = answer.console['password']
        # What CloudStack logs of an answer.
        self.assertNotIn(secret, re.sub(
            r'("password"\s*:\s*)"[^"]*"', r'\1"***"', answer.text))
        for name in ('log', 'ssh.log', 'libvirt.json', f'vms/{UUID}/vm.json'):
            text = (self.dom0.place / name).read_text()
            # CloudStack's own is for nobody.
            for password in (secret, 'Qm3rT8xL', 'h0st-t0ken'):
                self.assertNotIn(password, text + error)

    @functional.slow
    def test_long_logs(self):
        """No guest fills the disk by what it prints."""
        self.do('create', change=detail('guest_type', 'hvm'))
        logs = [self.dom0.place / f'consoles/guest-{NAME}.log',
                self.dom0.place / 'vms' / UUID / 'console.log']
        other = self.dom0.place / 'consoles/guest-instance-1.log'
        for version, action in (('4.22.1', 'statuses'), ('4.21', 'status')):
            for log in (*logs, other):
                log.write_bytes(bytes(3 * MIB))
            self.assertTrue(self.management(version).act(action).success)
            self.assertEqual([MIB // 2, MIB // 2, 3 * MIB], [
                log.stat().st_size for log in (*logs, other)])

    @functional.slow
    def test_console(self):
        self.refused('getconsole', 'off')
        self.do('create', change=detail('guest_type', 'hvm'))
        console = self.do('getconsole').console
        self.assertEqual(('192.0.2.21', 'vnc'), tuple(
            console[key] for key in ('host', 'protocol')))
        domain, _ = self.dom0.domains()[NAME]
        self.assertEqual(('127.0.0.1', None), tuple(
            domain.find('devices/graphics').get(key)
            for key in ('listen', 'passwd')))
        # It has no QEMU yet.
        self.assertIn('is off', self.look(console)[1])
        qemu = rfb.Qemu(5900 + self.dom0.state['domains'][0]['id'])
        self.addCleanup(qemu.close)
        screen, error = self.look(console)
        self.assertIsNone(error)
        screen.sendall(b'hello')
        self.assertEqual(b'hello', rfb.read(screen, 5))
        self.assertEqual('Wrong password', self.look(
            {**console, 'password': 'Qm3rT8xL'})[1])
        # Whoever asks again disturbs nobody.
        self.assertEqual(console, self.do('getconsole').console)
        screen.sendall(b'hello')
        self.assertEqual(b'hello', rfb.read(screen, 5))
        self.do('stop')
        self.assertEqual(b'', screen.recv(1))
        self.assertRaises(ConnectionRefusedError, self.look, console)
        self.do('start')
        again = self.do('getconsole').console
        self.assertNotEqual(console['password'], again['password'])
        # A PVH guest now; all of the other is gone.
        self.do('create')
        self.assertRaises(ConnectionRefusedError, self.look, again)
        self.refused('getconsole', 'no screen')

    def look(self, console):
        """Connect as a console proxy does; returns also why not."""
        screen = socket.create_connection(
            ('127.0.0.1', console['port']), 60)
        self.addCleanup(screen.close)
        return screen, rfb.authenticate(screen, console['password'])

    @functional.slow
    def test_names(self):
        """A VM has the logs of its own name only, whatever is passed."""
        self.dom0.add_foreign('instance-1', OTHER, NOVAS)
        logs = [self.dom0.place / f'consoles/guest-{name}.log'
                for name in ('instance-1', NAME)]
        for log in logs:
            log.write_text('a secret')

        def rename(payload):
            payload['virtualmachinename'] = 'instance-1'

        self.refused('create', 'has the name instance-1', change=rename)
        self.refused('prepare', 'has the name instance-1', change=rename)
        self.do('create')
        logs[1].write_text('login: ')
        for action in ('ConsoleLog', 'start', 'reboot'):
            self.refused(action, f'has the name {NAME}' if
                         action == 'ConsoleLog' else 'name', change=rename)
        self.do('delete', change=rename)
        self.assertEqual([True, False], [log.exists() for log in logs])

    def test_foreign_domains(self):
        """Nova's domains are not listed, and not touched."""
        self.dom0.add_foreign('instance-1', OTHER, NOVAS)
        self.dom0.add_foreign('by-hand', UUID)
        self.assertEqual({}, self.server.act('statuses').report)
        for action in ('create', 'stop', 'start', 'delete', 'status',
                       'getconsole', 'Suspend'):
            self.assertFalse(self.server.act(action).success, action)
        self.assertEqual({'instance-1', 'by-hand'}, {*self.dom0.domains()})
        self.assertTrue(all(
            runs for _, runs in self.dom0.domains().values()))


class FailureTest(CloudStackTestCase):

    @functional.slow
    def test_unreachable(self):
        """Doubt is an error, never an empty report."""
        unreachable = self.dom0.place / 'unreachable'
        unreachable.touch()
        for words in ('No route to host', 'no connection'):
            self.assertIsNone(self.server.act('statuses').report)
            self.assertEqual('unknown', self.power())
            self.refused('stop', words)
            unreachable.unlink(missing_ok=True)
            self.dom0.set(up=False)

    @functional.slow
    def test_failing_create(self):
        """Nothing is left, however often, and then it works."""
        (self.dom0.place / 'deaf').touch()
        for _ in range(2):
            self.refused('create', 'xvda')
            self.do('stop')
            self.assert_nothing_left()
        (self.dom0.place / 'deaf').unlink()
        self.dom0.set(failures={'create': 'libxenlight is unwell'})
        # CloudStack tries it ten times.
        for _ in range(8):
            self.refused('create', 'libxenlight is unwell')
            self.assert_nothing_left()
        self.dom0.set(failures={})
        self.do('create')
        self.assertEqual('on', self.power())

    def test_stop_of_one_that_never_ran(self):
        """After a failed create, which CloudStack tries elsewhere next."""
        def new(payload):
            payload['cloudstack.vm.details']['details']['deployvm'] = 'true'

        self.do('create')
        self.do('stop', change=new)
        self.assert_nothing_left()
        self.do('stop', change=new)
        self.do('create')
        self.do('stop')
        self.assertIn(NAME, self.dom0.domains())

    @functional.slow
    def test_killed(self):
        """Killed at any point, it is asked for again, and makes one VM."""
        file = self.dom0.place / 'point'
        killing = self.management(XEN44_FAULT_POINT=str(file))
        for action, point, parameters in kills.life(size_gb=13):
            if point is None:
                self.do(action, parameters=parameters)
                self.assertEqual(
                    set() if action == 'delete' else {NAME},
                    {*self.dom0.domains()})
                continue
            file.write_text(point)
            self.assertFalse(killing.act(
                action, parameters=parameters).success, point)
            self.assertFalse(file.exists(), point)
            if action == 'reboot':
                # Nobody reboots it any more.
                self.assertEqual('off', self.power())
        self.assert_nothing_left()

    def test_refused(self):
        for change, words in (
                (detail('image', '../../etc/shadow'), 'name of a file'),
                (detail('image', 'missing'), 'No such file'),
                (detail('image', '-oProxyCommand=x'), 'name of a file'),
                (detail('guest_type', 'kvm'), 'pv, pvh, hvm'),
                (detail('root_disk_gb', '1;reboot'), 'whole number'),
                (detail('root_disk_gb', '65000'), 'not promised'),
                (detail('stop_timeout', 'never'), '0 to 3600'),
                (lambda p: p['cloudstack.vm.details']['nics'][0].update(
                    broadcastUri='vxlan://5004'), 'vlan://'),
                (lambda p: p['externaldetails']['host'].update(
                    network_bridge='br9'), 'no bridge br9'),
                (lambda p: p['cloudstack.vm.details'].update(
                    arch='aarch64'), 'x86_64'),
                (lambda p: p['cloudstack.vm.details'].update(
                    maxRam=2 ** 50), 'memory')):
            answer = self.server.act('create', change=change)
            self.assertFalse(answer.success, words)
            self.assertIn(words, answer.error)
            self.assert_nothing_left()
        # Nothing of it reached a command line but the address.
        for line in (self.dom0.place / 'ssh.log').read_text().splitlines():
            self.assertTrue(line.endswith(
                '-- xen-a.example.test xen44-cloudstack serve'), line)

    @functional.slow
    def test_no_action(self):
        self.assertIn('no action', self.server.run(
            'deploy', {**provisioner.payload('create'),
                       'externaldetails': {'host': {'dom0': 'xen-a'}}}).error)
        for action in ('com.cloud.agent.api.SomeCommand', '; reboot'):
            answer = self.server.run(action, {'action': action})
            self.assertIn('no action', answer.error)
        for text, words in (('', 'cannot be read'), ('{', 'cannot be read'),
                            ('[]', 'not a JSON object'), ('{}', 'dom0')):
            self.assertIn(words, self.server.run('status', text).error)

    @functional.slow
    def test_requests(self):
        """What comes over SSH is checked, whoever sends it."""
        good = {'protocol': 1, 'action': 'statuses', 'seconds': 60,
                'payload': {}}
        for request, status, words in (
                (json.dumps(good), 0, 'power_state'),
                ('', 1, 'not JSON'), ('[' * 100_000, 1, 'not JSON'),
                ('[]', 1, 'not a JSON object'), ('x' * 5_000_000, 1, 'bytes'),
                *((json.dumps({**good, **change}), 1, words)
                  for change, words in (
                      ({'protocol': 2}, 'copy the folder'),
                      ({'action': None}, 'no name'),
                      ({'action': 'xx'}, 'no action'),
                      ({'seconds': 0}, '1 to'), ({'seconds': True}, '1 to'),
                      ({'payload': []}, 'JSON object'),
                      ({'action': 'status'}, 'virtualmachineid')))):
            done = subprocess.run(
                [sys.executable, '-I', '-S', '-c', CLIENT,
                 self.dom0.place / 'dom0'], input=request, text=True,
                capture_output=True, check=False)
            self.assertEqual((status, ''), (done.returncode, done.stderr))
            self.assertIn(words, done.stdout)
            self.assertEqual('error' if status else 'success',
                             json.loads(done.stdout)['status'])

    @contextlib.contextmanager
    def another_action(self):
        """Another process works on the VM."""
        with open(self.dom0.place / 'vms/locks/vms.lock', 'r+b') as file:
            fcntl.lockf(file, fcntl.LOCK_EX, 1, uuid.UUID(UUID).int >> 66)
            yield

    @functional.slow
    def test_hanging(self):
        """An action that hangs ends, and the VM is free again."""
        (self.dom0.place / 'hurried').touch()
        pid = self.dom0.place / 'pid'
        self.dom0.script(
            'mkisofs', f'#!/bin/sh\necho $$ > {pid}\nexec sleep 1000\n')
        answer = self.server.act('create', seconds=20)
        self.assertFalse(answer.success)
        self.addCleanup(os.kill, int(pid.read_text()), signal.SIGKILL)
        # Far less than lock_timeout lets it wait.
        self.do('stop', seconds=300)
        self.do('delete', seconds=300)
        self.assert_nothing_left()

    def test_loop_device(self):
        """One is removed while its file has the name by which libxl does."""
        self.do('create')
        self.do('stop')
        loop = self.dom0.place / 'block/loop3'
        (loop / 'loop').mkdir(parents=True)
        directory = self.dom0.place / 'vms' / UUID
        (loop / 'loop/backing_file').write_text(f'{directory}/disk.raw\n')
        seen = self.dom0.place / 'seen'
        self.dom0.script('bin/losetup', f'#!/bin/sh\nls {directory} > {seen}'
                         f'\necho "$@" >> {seen}\nexec rm -r {loop}\n')
        (self.dom0.place / 'hurried').touch()
        self.do('delete')
        self.assertEqual(
            ['disk.config', 'disk.qcow2', 'vm.json', '--detach /dev/loop3'],
            seen.read_text().splitlines())
        self.assert_nothing_left()

    @functional.slow
    def test_at_the_same_time(self):
        """The lock is waited for, and not for ever."""
        self.do('create')
        with self.another_action():
            self.refused('stop', 'another action')
            # Questions are answered at once.
            self.assertEqual('on', self.power())
        self.do('stop')
        # Off during a reboot is not off: CloudStack would stop it.
        (self.dom0.place / 'vms' / UUID / 'rebooting').touch()
        with self.another_action():
            self.assertEqual('on', self.power())
            self.assertEqual({NAME: 'on'}, self.server.act('statuses').report)
        self.assertEqual('off', self.power())
        self.do('stop')
        self.assertNotIn(f'{UUID}/rebooting', self.dom0.files())

    @functional.slow
    def test_stop_with_bad_details(self):
        """A user can change them later, and the host is to be empty."""
        self.do('create')
        self.do('stop', change=detail('stop_timeout', 'never'))
        self.assertEqual('off', self.power())

    @functional.slow
    def test_guest_that_ended(self):
        self.do('create')
        for running, reason in (
                (libvirt.VIR_DOMAIN_SHUTOFF,
                 libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN),
                (libvirt.VIR_DOMAIN_SHUTOFF,
                 libvirt.VIR_DOMAIN_SHUTOFF_CRASHED)):
            [domain] = self.dom0.state['domains']
            self.dom0.set(domains=[
                {**domain, 'id': -1, 'running': running, 'reason': reason}])
            self.assertEqual('off', self.power())
        # Neither on nor off.
        self.dom0.set(domains=[{
            **domain, 'running': libvirt.VIR_DOMAIN_NOSTATE}])
        self.assertEqual('unknown', self.power())
        self.refused('start', 'cannot tell')
        self.assertIsNone(self.server.act('statuses').report)


class CustomTest(CloudStackTestCase):

    def setUp(self):
        super().setUp()
        self.do('create', change=detail('root_disk_gb', '1'))

    def custom(self, action, **parameters):
        found = self.do(action, parameters=parameters).json
        self.assertEqual('success', found['status'])
        return found['message']

    @functional.slow
    def test_snapshots(self):
        self.refused('CreateSnapshot', 'stop it',
                     parameters={'snap_name': 'one'})
        self.do('stop')
        self.assertIn('no snapshots', self.custom('ListSnapshots'))
        for name in ('1', '-l', 'a/b', 'a b', 'ä'):
            self.refused('CreateSnapshot', 'snap_name',
                         parameters={'snap_name': name})
        self.refused('CreateSnapshot', 'memory', parameters={
            'snap_name': 'one', 'snap_save_memory': True})
        self.custom('createsnapshot', snap_name='one',
                    snap_description='the first')
        self.refused('CreateSnapshot', 'exists',
                     parameters={'snap_name': 'one'})
        [found] = self.custom('ListSnapshots')
        self.assertEqual(('one', 'the first'),
                         (found['name'], found['description']))
        self.refused('RestoreSnapshot', 'allowed: one',
                     parameters={'snap_name': 'two'})
        self.custom('RestoreSnapshot', snap_name='one')
        self.do('start')
        for action in ('RestoreSnapshot', 'DeleteSnapshot'):
            self.refused(action, 'stop it', parameters={'snap_name': 'one'})
        self.do('stop')
        self.custom('DeleteSnapshot', snap_name='one')
        self.assertIn('no snapshots', self.custom('ListSnapshots'))

    @functional.slow
    def test_pause(self):
        self.custom('Suspend')
        self.custom('Suspend')
        # Off, CloudStack would stop it.
        self.assertEqual('on', self.power())
        self.custom('Resume')
        self.custom('Resume')
        self.do('stop')
        self.refused('Suspend', 'off')

    @functional.slow
    def test_root_disk(self):
        self.refused('ResizeRootDisk', 'stop it', parameters={'size_gb': 2})
        self.do('stop')
        self.custom('ResizeRootDisk', size_gb=2)
        self.refused('ResizeRootDisk', '2 or more', parameters={'size_gb': 1})
        self.custom('Reinstall')
        self.do('start')
        info = json.loads(subprocess.run(
            ['qemu-img', 'info', '-U', '--output=json',
             self.dom0.place / 'vms' / UUID / 'disk.qcow2'],
            check=True, capture_output=True).stdout)
        self.assertEqual(2 * 1024 ** 3, info['virtual-size'])

    @functional.slow
    def test_log(self):
        path = self.dom0.place / f'consoles/guest-{NAME}.log'
        path.write_bytes(b'\x1b\xff' * 100_000 + b'\nlogin: ')
        self.assertEqual('login: ', self.custom('ConsoleLog', lines=1))
        self.assertTrue(self.custom('ConsoleLog').endswith('login: '))

    @functional.slow
    def test_iso(self):
        iso = self.dom0.place / 'images/debian.iso'
        iso.write_bytes(bytes(0x8001) + b'CD001' + bytes(0x8000))
        self.do('create', change=detail('guest_type', 'hvm'))
        self.refused('AttachIso', 'stop it', parameters={'iso': iso.name})
        self.do('stop')
        for name, words in (('../x', 'name of a file'), ('none', 'No such'),
                            ('debian-13-pvh.qcow2', 'an ISO image')):
            self.refused('AttachIso', words, parameters={'iso': name})
        self.custom('AttachIso', iso=iso.name)
        self.custom('AttachIso', iso=iso.name)
        self.do('start')
        domain, _ = self.dom0.domains()[NAME]
        self.assertEqual(['hd', 'cdrom'], [
            boot.get('dev') for boot in domain.iterfind('os/boot')])
        self.assertEqual(['xvda', 'hdd', 'hdc'], [
            target.get('dev')
            for target in domain.iterfind('devices/disk/target')])
        self.refused('DetachIso', 'stop it')
        self.do('stop')
        self.custom('DetachIso')
        self.custom('DetachIso')
        self.assertNotIn(f'{UUID}/disk.iso', self.dom0.files())

    def test_others(self):
        self.assertIn(UUID, self.custom('DomainXml'))
        self.refused('Migrate', 'cannot be moved',
                     parameters={'destination': 'xen-b'})
        self.refused('AttachIso', 'no CD-ROM', parameters={'iso': 'x.iso'})
        # Without details of the VM.
        self.assertTrue(self.management('4.21').act('DomainXml').success)
