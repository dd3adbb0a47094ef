# SPDX-License-Identifier: Apache-2.0
"""CloudStack's actions on real Xen, beside Nova's instances.

A double of the management server runs the entry point of the folder that
``xen44-cloudstack bundle`` made in dom0, over SSH with the key that may do
nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
import json
import pathlib
import shlex
import socket
import struct
import subprocess
from typing import Any
from typing import ClassVar

from labkit import cloudstack
from labkit import provisioner
from labkit import util
from tests.cloudstack import kills
from tests.cloudstack import rfb
from tests.gate import base
from tests.gate import guest as guest_lib

#: A VLAN in dom0: its tag, a port of it, and the address of that.
VLAN = 1204
PORT = 'gate-cs-vlan'
GATEWAY = f'{cloudstack.GATEWAY}/24'


class CloudStack(base.GateCase):
    """The management server is outside, dom0 is the first host's."""

    server: ClassVar[provisioner.Provisioner]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server = cls.enterClassContext(
            cloudstack.management_server(cls.host))

    def make_vm(self, guest_type: str, **options: Any) -> cloudstack.Vm:
        """A VM that is deleted after the test."""
        vm = cloudstack.Vm(self.server, guest_type, **options)
        self.addCleanup(vm.act, 'delete')
        return vm

    def xen_runs(self, vm: cloudstack.Vm) -> bool:
        """Whether Xen, not libvirt, has the domain."""
        return vm.name in self.dom0('xl', 'list')

    @staticmethod
    def prompts(vm: cloudstack.Vm) -> int:
        """How many login prompts are on its console."""
        return len(guest_lib.LOGIN.findall(vm.console()))

    def wait_for_login(self, vm: cloudstack.Vm, boots: int) -> None:
        """Wait until it has booted so often."""
        util.wait_for(
            f'{boots} login prompts of {vm.name}',
            lambda: self.prompts(vm) >= boots,
            guest_lib.LOGIN_TIMEOUT, interval=5)

    def assert_nothing_left(self, vm: cloudstack.Vm) -> None:
        self.assertEqual({}, vm.act('statuses').report)
        self.assertNotIn(vm.name, self.dom0('virsh', 'list', '--all'))
        self.assertEqual('', self.dom0(
            'find', cloudstack.VMS, '-name', f'{vm.uuid}*'))

    @base.slow
    def test_pv(self) -> None:
        nova = self.make_server(self.addCleanup, flavor=self.make_flavor(
            self.addCleanup, guest_type='pv'))
        nova.wait_for_status('ACTIVE')
        vm = self.make_vm('pv')

        self.assertEqual('', vm.do('prepare').text)
        vm.do('create')
        self.assertTrue(self.xen_runs(vm))
        self.assertEqual('on', vm.act('status').power_state)
        report = vm.act('statuses').report
        self.assertEqual('on', (report or {}).get(vm.name))
        # Nova's instance is not CloudStack's.
        self.assertEqual({vm.name}, {*(report or {})})
        self.wait_for_login(vm, 1)
        self.assertIn('no screen', vm.act('getconsole').error)

        vm.do('Suspend')
        self.assertEqual('on', vm.act('status').power_state)
        vm.do('Resume')

        vm.do('stop')
        self.assertFalse(self.xen_runs(vm))
        self.assertEqual('off', vm.act('status').power_state)
        vm.do('CreateSnapshot', snap_name='first')
        vm.do('start')
        self.wait_for_login(vm, 2)
        self.assertIn('stop it', vm.act(
            'RestoreSnapshot', snap_name='first').error)
        vm.do('reboot')
        self.wait_for_login(vm, 3)
        vm.do('stop')
        vm.do('RestoreSnapshot', snap_name='first')
        [snapshot] = vm.do('ListSnapshots').json['message']
        self.assertEqual('first', snapshot['name'])
        vm.do('start')
        self.wait_for_login(vm, 4)
        vm.do('stop')
        vm.do('DeleteSnapshot', snap_name='first')

        vm.do('delete')
        self.assert_nothing_left(vm)
        nova.wait_for_status('ACTIVE')

    @base.slow
    def test_hvm(self) -> None:
        """A PC that boots by its BIOS, and gets a CD."""
        iso = 'gate.iso'
        self.dom0('genisoimage', '-quiet', '-o',
                  f'{cloudstack.PLACE}/images/{iso}', '/etc/os-release')
        vm = self.make_vm('hvm')
        # Its own copy.
        path = f'{vm.uuid}/disk.iso'
        vm.do('create')
        self.wait_for_login(vm, 1)
        self.assertIn('stop it', vm.act('AttachIso', iso=iso).error)
        vm.do('stop')
        vm.do('AttachIso', iso=iso)
        vm.do('start')
        self.wait_for_login(vm, 2)
        self.assertIn(path, vm.do('DomainXml').json['message'])
        # Some of the processes end meanwhile.
        self.assertIn(path, self.host.ssh(
            'ls -l /proc/[0-9]*/fd', check=False).stdout)
        vm.do('stop')
        vm.do('DetachIso')
        self.assertEqual('', self.dom0(
            'find', cloudstack.VMS, '-name', 'disk.iso'))
        vm.do('delete')
        self.assert_nothing_left(vm)

    @base.slow
    def test_vlan(self) -> None:
        """It has its address and its key, on its own VLAN only."""
        bridge = 'gate-cs1'
        self.dom0('ovs-vsctl', 'add-br', bridge)
        self.addCleanup(self.dom0, 'ovs-vsctl', 'del-br', bridge)
        vm = self.make_vm('pv', vlan=VLAN, host={
            'network_mode': 'ovs', 'network_bridge': bridge})
        vm.do('create')
        port = f'vif{self.dom0("xl", "domid", vm.name).strip()}.0'
        self.assertEqual(bridge, self.dom0(
            'ovs-vsctl', 'port-to-br', port).strip())
        self.assertEqual(f'{VLAN}', self.dom0(
            'ovs-vsctl', 'get', 'Port', port, 'tag').strip())

        # A port of the VLAN in dom0, which all has to go through.
        self.dom0('ovs-vsctl', 'add-port', bridge, PORT, f'tag={VLAN}', '--',
                  'set', 'Interface', PORT, 'type=internal')
        self.dom0('ip', 'address', 'add', GATEWAY, 'dev', PORT)
        self.dom0('ip', 'link', 'set', PORT, 'up')
        util.wait_for(f'ssh into {vm.name}', lambda: self.inside(
            vm, 'true').returncode == 0, guest_lib.LOGIN_TIMEOUT, interval=5)
        self.assertEqual(vm.name.lower(), self.inside(
            vm, 'hostname').stdout.strip())
        self.dom0('ovs-vsctl', 'set', 'Port', PORT, f'tag={VLAN + 1}')
        self.dom0('ip', 'neighbour', 'flush', 'dev', PORT)
        self.assertNotEqual(0, self.inside(vm, 'true').returncode)
        self.dom0('ovs-vsctl', 'set', 'Port', PORT, f'tag={VLAN}')

        # One that ends by itself is off, and can be started.
        self.inside(vm, '(sleep 1; poweroff) >/dev/null 2>&1 &')
        util.wait_for(f'{vm.name} to be off', lambda: (
            vm.act('status').power_state == 'off'),
            guest_lib.STOP_TIMEOUT, interval=5)
        self.assertFalse(self.xen_runs(vm))
        vm.do('start')
        util.wait_for(f'ssh into {vm.name}', lambda: self.inside(
            vm, 'true').returncode == 0, guest_lib.LOGIN_TIMEOUT, interval=5)

    def inside(
        self, vm: cloudstack.Vm, command: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a VM, through dom0; it may fail."""
        proxy = shlex.join([*self.host.ssh_command(), '-W', '%h:%p'])
        return util.run(
            [*guest_lib.SSH, '-o', f'ProxyCommand={proxy}',
             f'root@{cloudstack.ADDRESS}', command], check=False, timeout=120)

    @base.slow
    def test_screen(self) -> None:
        vm = self.make_vm('hvm')
        vm.do('create')
        console = vm.do('getconsole').console
        self.assertEqual('Wrong password', self.look(
            {**console, 'password': 'x' * 8})[1])
        screen, error = self.look(console)
        self.assertIsNone(error)
        # ClientInit, ServerInit: this is the guest's QEMU.
        screen.sendall(b'\1')
        width, height = struct.unpack('!HH', rfb.read(screen, 4))
        self.assertGreater(width * height, 0)
        rfb.read(screen, 16)
        name = rfb.read(screen, int.from_bytes(rfb.read(screen, 4), 'big'))
        self.assertIn('QEMU', name.decode())

        self.assertEqual(console, vm.do('getconsole').console)
        unit = f'xen44-screen-{vm.uuid}.service'
        self.assertEqual('active', self.dom0(
            'systemctl', 'is-active', unit).strip())
        self.assertNotIn(console['password'], self.dom0(
            'journalctl', '--boot', '--no-pager',
            '--identifier=xen44-cloudstack'))
        self.assertIn('127.0.0.1:', self.dom0('virsh', 'vncdisplay', vm.name))

        vm.do('stop')
        self.assertRaises(ConnectionRefusedError, self.look, console)
        self.assertEqual('', self.dom0(
            'find', '/run/xen44', '-name', f'{vm.uuid}.screen*'))

    def look(
        self, console: Mapping[str, Any],
    ) -> tuple[socket.socket, str | None]:
        """Connect as the console proxy does; returns also why not."""
        screen = socket.create_connection(
            (console['host'], console['port']), 60)
        self.addCleanup(screen.close)
        return screen, rfb.authenticate(screen, console['password'])

    def kill(self, vm: cloudstack.Vm, action: str, point: str,
             parameters: Mapping[str, str]) -> None:
        """Run an action in dom0 that is killed at a point of it."""
        payload = self.server.payload(
            action, change=vm.change, parameters=parameters)
        file = f'{cloudstack.PLACE}/point'
        self.host.ssh(['tee', file], input=point)
        command = shlex.join([cloudstack.COMMAND, 'run', action, '-'])
        done = self.host.ssh(
            f'XEN44_FAULT_POINT={file} {command}', check=False,
            input=json.dumps(payload), timeout=cloudstack.TIMEOUT)
        self.assertEqual('', done.stdout, point)
        # It was reached, and so the file is gone.
        self.host.ssh(['test', '!', '-e', file])

    @base.slow
    def test_killed(self) -> None:
        """Killed at any point, an action is repeated, and makes one VM."""
        vm = self.make_vm('pvh')
        for action, point, parameters in kills.life(size_gb=2):
            if point is not None:
                self.kill(vm, action, point, parameters)
                continue
            vm.do(action, **parameters)
            self.assertEqual(action in ('create', 'start'), self.xen_runs(vm))
            if action in ('Reinstall', 'stop'):
                before = self.prompts(vm)
            if action == 'start':
                # Its disk is whole.
                self.wait_for_login(vm, before + 1)
        self.assert_nothing_left(vm)

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
            check=False, timeout=cloudstack.TIMEOUT)
        self.assertNotIn('uid=', done.stdout)
        self.assertIn('not JSON', done.stdout)
        self.assertEqual(1, done.returncode)
