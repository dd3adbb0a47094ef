# SPDX-License-Identifier: Apache-2.0
"""CloudStack's actions on real Xen, beside Nova's instances.

A double of the management server runs the entry point of the folder that
``xen44-cloudstack bundle`` made in dom0, over SSH with the key that may do
nothing else.
"""

from __future__ import annotations

import os
import pathlib
import re
import socket
import subprocess
import tempfile
from typing import Any
from typing import ClassVar
import uuid

from cryptography.hazmat.decrepit.ciphers import algorithms
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers import modes

from labkit import compute
from labkit import guest as guest_images
from labkit import util
from tests.cloudstack import provisioner
from tests.gate import base
from tests.gate import guest as guest_lib

COMMAND = f'{compute.VENV}/bin/xen44-cloudstack'

#: In dom0: all that the tests make, and what they put in place.
PLACE = '/var/lib/xen44-gate'
CONF = '/etc/xen44/xen44.conf'
KEYS = '/root/.ssh/authorized_keys'
BRIDGE = 'gate-cs0'
IMAGE = 'small.qcow2'

OPTIONS = '''[xen44_cloudstack]
storage_path = {place}/vms
images_directory = {place}/images
network_mode = bridge
vnc_listen = {address}
stop_timeout = 120
'''

#: Seconds: under emulation the imports take most of them.
TIMEOUT = 900


class CloudStack(base.GateCase):
    """The management server is outside, dom0 is the first host's."""

    server: ClassVar[provisioner.Provisioner]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        ssh = cls.host.ssh
        cls.addClassCleanup(
            ssh, f'rm -rf {PLACE} {CONF}; ip link delete {BRIDGE}; '
                 f'test ! -e {KEYS}.gate || mv {KEYS}.gate {KEYS}',
            check=False)
        ssh(f'mkdir -p -m 700 {PLACE}/images /etc/xen44 && '
            f'ip link add {BRIDGE} type bridge && '
            f'ip link set {BRIDGE} up && cp -p {KEYS} {KEYS}.gate')
        ssh(['install', '--mode=600', '/dev/stdin', CONF],
            input=OPTIONS.format(place=PLACE, address=cls.host.address))
        cls.host.copy_to(guest_images.small_guest().disk_qcow2,
                         f'{PLACE}/images/{IMAGE}')
        steps = ssh([COMMAND, 'bundle', f'{PLACE}/xen44', '--address',
                     cls.host.address], timeout=TIMEOUT).stdout
        found = re.search(r'^restrict,command=.*$', steps, re.M)
        assert found, steps
        ssh(['tee', '--append', KEYS], input=f'{found[0]}\n')
        local = pathlib.Path(cls.enterClassContext(
            tempfile.TemporaryDirectory()))
        cls.host.copy_from(f'{PLACE}/xen44/', local / 'xen44')
        payloads = local / 'payloads'
        payloads.mkdir()
        cls.server = provisioner.Provisioner(
            local / 'xen44/xen44.py', payloads,
            environment={'PATH': os.environ['PATH'], 'TMPDIR': str(local)},
            details={'extension': {}, 'host': {
                'dom0': cls.host.address, 'network_bridge': BRIDGE,
                'console_host': cls.host.address}})

    def setUp(self) -> None:
        super().setUp()
        self.uuid = str(uuid.uuid4())
        self.domain = f'i-9-{uuid.uuid4().int % 10 ** 6}-VM'
        self.guest_type = 'pv'
        self.addCleanup(self.act, 'delete')

    def change(self, payload: dict[str, Any]) -> None:
        """Make a payload one of this test's VM."""
        if 'virtualmachineid' not in payload:
            return
        payload['virtualmachineid'] = self.uuid
        payload['virtualmachinename'] = self.domain
        vm = payload['cloudstack.vm.details']
        vm.update(uuid=self.uuid, name=self.domain, cpus=1,
                  maxRam=192 * 1024 ** 2, minRam=192 * 1024 ** 2)
        for nic in vm['nics']:
            nic['broadcastUri'] = 'vlan://untagged'
        payload['externaldetails']['virtualmachine'] = {
            'image': IMAGE, 'guest_type': self.guest_type,
            'root_disk_gb': '1'}

    def act(self, action: str, **parameters: Any) -> provisioner.Answer:
        return self.server.act(action, seconds=TIMEOUT, change=self.change,
                               parameters=parameters)

    def do(self, action: str, **parameters: Any) -> provisioner.Answer:
        """Run an action that succeeds."""
        answer = self.act(action, **parameters)
        self.assertTrue(answer.success, answer)
        return answer

    def xen_runs(self) -> bool:
        """Whether Xen, not libvirt, has the domain."""
        return self.domain in self.dom0('xl', 'list')

    def console(self) -> str:
        """The end of its console log."""
        message: str = self.do('ConsoleLog').json['message']
        return message

    def wait_for_login(self, boots: int) -> None:
        """Wait until it has booted so often."""
        util.wait_for(
            f'{boots} login prompts of {self.domain}',
            lambda: len(guest_lib.LOGIN.findall(self.console())) >= boots,
            guest_lib.LOGIN_TIMEOUT, interval=5)

    @base.slow
    def test_pv(self) -> None:
        nova = self.make_server(self.addCleanup, flavor=self.make_flavor(
            self.addCleanup, guest_type='pv'))
        nova.wait_for_status('ACTIVE')

        self.assertEqual('', self.do('prepare').text)
        self.do('create')
        self.assertTrue(self.xen_runs())
        self.assertEqual('on', self.act('status').power_state)
        report = self.act('statuses').report
        self.assertEqual('on', (report or {}).get(self.domain))
        # Nova's instance is not CloudStack's.
        self.assertEqual({self.domain}, {*(report or {})})
        self.wait_for_login(1)
        self.assertIn('no screen', self.act('getconsole').error)

        self.do('Suspend')
        self.assertEqual('on', self.act('status').power_state)
        self.do('Resume')

        self.do('stop')
        self.assertFalse(self.xen_runs())
        self.assertEqual('off', self.act('status').power_state)
        self.do('CreateSnapshot', snap_name='first')
        self.do('start')
        self.wait_for_login(2)
        self.assertIn('stop it', self.act(
            'RestoreSnapshot', snap_name='first').error)
        self.do('reboot')
        self.wait_for_login(3)
        self.do('stop')
        self.do('RestoreSnapshot', snap_name='first')
        [snapshot] = self.do('ListSnapshots').json['message']
        self.assertEqual('first', snapshot['name'])
        self.do('start')
        self.wait_for_login(4)
        self.do('stop')
        self.do('DeleteSnapshot', snap_name='first')

        self.do('delete')
        self.assertEqual({}, self.act('statuses').report)
        self.assertNotIn(self.domain, self.dom0('virsh', 'list', '--all'))
        self.assertEqual('', self.dom0(
            'find', f'{PLACE}/vms', '-name', f'{self.uuid}*'))
        nova.wait_for_status('ACTIVE')

    @base.slow
    def test_screen(self) -> None:
        self.guest_type = 'hvm'
        self.do('create')
        console = self.do('getconsole').console
        with socket.create_connection(
                (console['host'], console['port']), 60) as screen:
            self.assertEqual(0, self.authenticate(
                screen, console['password']))

    @staticmethod
    def authenticate(screen: socket.socket, password: str) -> int:
        """Give a VNC server its password (RFC 6143, 7.2.2).

        :returns: 0 if it takes it.
        """
        def read(count: int) -> bytes:
            data = b''
            while len(data) < count:
                part = screen.recv(count - len(data))
                assert part, 'the VNC server has closed the connection'
                data += part
            return data

        read(12)
        screen.sendall(b'RFB 003.008\n')
        kinds = read(read(1)[0])
        # No other than by password.
        assert kinds == b'\2', kinds
        screen.sendall(b'\2')
        # DES, with each byte of the key from its lowest bit on.
        key = bytes(int(f'{byte:08b}'[::-1], 2)
                    for byte in password.encode().ljust(8, b'\0'))
        cipher = Cipher(algorithms.TripleDES(key * 3),
                        modes.ECB())  # noqa: S305 - that is VNC's
        screen.sendall(cipher.encryptor().update(read(16)))
        return int.from_bytes(read(4), 'big')

    @base.slow
    def test_key_runs_nothing_else(self) -> None:
        """Whatever is asked for, the key's command is run."""
        folder = pathlib.Path(self.server.entry).parent
        done = subprocess.run(
            ['ssh', '-F', 'none', '-T', '-i', folder / 'id_ed25519',
             '-o', 'IdentitiesOnly=yes', '-o', 'BatchMode=yes',
             '-o', f'UserKnownHostsFile={folder / "known_hosts"}',
             '-o', 'StrictHostKeyChecking=yes',
             f'root@{self.host.address}', 'id'],
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False, timeout=TIMEOUT)
        self.assertNotIn('uid=', done.stdout)
        self.assertIn('not JSON', done.stdout)
        self.assertEqual(1, done.returncode)
