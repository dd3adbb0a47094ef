# SPDX-License-Identifier: Apache-2.0
"""``xen44-host status``: domains of Nova's, foreign ones, and the rest."""

import contextlib
import io
import json
import os
import pathlib
import re

import fixtures
import libvirt
import openstack

from tests.unit import base as unit_base
from tests.unit.cmd import base
from tests.unit.compute import golden
from xen44_driver.cmd import cli
from xen44_driver.cmd import cloud
from xen44_driver.cmd import vitals
from xen44_driver.storage import usage

FOREIGN = '''<domain type='xen'>
  <name>my guest</name>
  <memory unit='KiB'>131072</memory>
  <vcpu current='1'>2</vcpu>
  <os><type arch='x86_64' machine='xenpv'>linux</type></os>
  <devices>
    <disk type='block' device='disk'><target dev='xvda' bus='xen'/></disk>
    <hostdev mode='subsystem' type='pci'/>
  </devices>
</domain>'''

XL_ONLY = '99999999-1111-4111-8111-111111111111'


class StatusTestCase(base.CommandTestCase):

    def setUp(self):
        super().setUp()
        self.programs = self.useFixture(fixtures.TempDir()).path
        self.useFixture(fixtures.EnvironmentVariable(
            'PATH', f'{self.programs}:{os.environ["PATH"]}'))
        self.patch(usage, 'measure', return_value=usage.Usage(
            total=100 << 30, used=20 << 30, free=80 << 30,
            promised=10 << 30))
        self.pvh = self.add(1, 'pvh_x86_64_grub')
        self.hvm = self.add(2, 'hvm_x86_64_firmware', running=False)
        self.foreign = self.libvirt.add(3, ours=False)
        self.foreign.xml = FOREIGN
        self.xl(uptime=f"""
Name                                ID Uptime
Domain-0                             0 12 days,  1:02:03
{self.pvh.name:<33}    1 1 day,  0:00:59
my guest 7                           2  0:03:33
of xl                                5 10:00:00""", vm_list=f"""
UUID                                  ID    name
00000000-0000-0000-0000-000000000000  0    Domain-0
{self.pvh.uuid}  1    {self.pvh.name}
{self.foreign.uuid}  2    my guest 7
{XL_ONLY}  5    of xl""")
        # Domain 2 ends meanwhile.
        self.program('lsevtchn', """[ "$1" != 2 ] || exit 1
for port in $(seq $((50 - $1))); do
    echo "$port: VCPU 0: IPI"
done""")

    def add(self, number, name, *, running=True):
        state = self.libvirt.add(number, running=running)
        state.xml = golden.path(name).read_text(encoding='utf-8')
        return state

    def program(self, name, script):
        path = pathlib.Path(self.programs, name)
        path.write_text(f'#!/bin/sh\n{script}\n', encoding='utf-8')
        path.chmod(0o700)

    def xl(self, uptime, vm_list):
        """What xl prints: a header, and a line for each domain."""
        self.program('xl', f"""case $1 in
uptime) cat << 'END'
{uptime.strip()}
END
;;
vm-list) cat << 'END'
{vm_list.strip()}
END
;;
esac""")

    def status(self, *argv):
        return self.run_host('status', *argv)


class StatusTest(StatusTestCase):

    def test_table(self):
        status, text = self.status()
        self.assertEqual(0, status, text)
        self.assert_golden('status.txt', text)

    def test_json(self):
        status, text = self.status('--json')
        self.assertEqual(0, status, text)
        self.assert_golden('status.json', text)

    def test_calls(self):
        """Three for each domain, whatever it has."""
        self.status()
        of_domains = [call for call in self.libvirt.calls
                      if call in ('state', 'metadata', 'XMLDesc')]
        self.assertEqual(9, len(of_domains))
        self.assertNotIn('lookupByUUIDString', [
            call for call in self.libvirt.calls
            if call == 'lookupByUUIDString'][1:])  # dom0's

    def test_undefined_meanwhile(self):
        self.xl('', '')
        self.libvirt.fail['XMLDesc'] = base.fake.error(
            libvirt.VIR_ERR_NO_DOMAIN)
        status, text = self.status('--json')
        self.assertEqual(0, status)
        # Of three, whichever was asked for first.
        self.assertEqual(2, len(json.loads(text)['domains']))

    def test_a_name_controls_no_terminal(self):
        self.pvh.xml = re.sub('Käse', 'K\x9b31mse', self.pvh.xml)
        _, text = self.status()
        self.assertIn('K\ufffd31mse', text)
        self.assertNotIn('\x9b', text)

    def test_a_name_that_the_terminal_cannot_show(self):
        self.pvh.xml = re.sub('Käse', '\U0001f9c0', self.pvh.xml)
        raw = io.BytesIO()
        with contextlib.redirect_stdout(
                io.TextIOWrapper(raw, encoding='latin-1')) as out:
            self.assertEqual(0, cli.host_main(['status']))
            out.flush()
        text = raw.getvalue().decode('latin-1')
        self.assertIn('| ? <&>    |', text)
        self.assertIn('| Käse <&> |', text)

    def test_no_libvirt(self):
        self.stop_libvirt()
        status, text = self.status()
        self.assertEqual(2, status)
        self.assertRegex(text, '^xen44-host: .*refused')

    def test_xl_fails(self):
        self.program('xl', 'echo not today >&2; exit 1')
        status, text = self.status()
        self.assertEqual(2, status)
        self.assertIn('xl uptime: not today', text)

    def test_no_lsevtchn(self):
        (pathlib.Path(self.programs) / 'lsevtchn').unlink()
        self.patch(vitals, 'DIRECTORIES', ())
        status, text = self.status('--json')
        self.assertEqual(0, status)
        found = json.loads(text)
        self.assertEqual({None}, {domain['event_channels']
                                  for domain in found['domains']})
        self.assertNotIn('event_channels', found['totals'])

    def test_lsevtchn_is_not_on_the_path(self):
        """Debian has one for each version of Xen."""
        directory = pathlib.Path(self.programs) / 'xen-4.20' / 'bin'
        directory.mkdir(parents=True)
        (pathlib.Path(self.programs) / 'lsevtchn').rename(
            directory / 'lsevtchn')
        self.patch(vitals, 'DIRECTORIES', (f'{self.programs}/xen-*/bin',))
        _, text = self.status()
        self.assert_golden('status.txt', text)


class CompareTest(StatusTestCase):

    def setUp(self):
        super().setUp()
        self.flags(host='xen1')
        self.cloud = self.patch(openstack, 'connect').return_value
        self.cloud.__enter__.return_value = self.cloud
        self.compute = self.cloud.compute
        self.servers = [self.server(self.pvh.uuid), self.server(self.hvm.uuid)]
        self.compute.servers.side_effect = lambda **query: iter(self.servers)
        self.compute.get_server.side_effect = (
            openstack.exceptions.NotFoundException('gone'))

    @staticmethod
    def server(uuid, vm_state='active', task_state=None, **values):
        return openstack.compute.v2.server.Server(
            id=uuid, vm_state=vm_state, task_state=task_state, **values)

    def differences(self):
        status, text = self.status('--json', '--compare')
        self.assertEqual(0, status, text)
        return json.loads(text)['differences']

    def test_the_same(self):
        self.assertEqual([], self.differences())
        self.compute.servers.assert_called_once_with(
            all_projects=True, compute_host='xen1')
        _, text = self.status('--compare')
        self.assertIn('Nova has the same servers here.', text)

    def test_orphan(self):
        del self.servers[0]
        [found] = self.differences()
        self.assertEqual((self.pvh.uuid, 'xen'),
                         (found['uuid'], found['only_in']))
        self.assertIn('does not know', found['text'])
        _, text = self.status('--compare')
        self.assertIn(f'{self.pvh.uuid}: Nova does not know', text)

    def test_on_another_host(self):
        del self.servers[0]
        self.compute.get_server.side_effect = None
        self.compute.get_server.return_value = self.server(
            self.pvh.uuid, status='VERIFY_RESIZE', compute_host='xen2')
        [found] = self.differences()
        self.assertIn('on host xen2 (VERIFY_RESIZE)', found['text'])

    def test_server_without_a_domain(self):
        self.servers.append(self.server(unit_base.UUID, 'stopped'))
        [found] = self.differences()
        self.assertEqual((unit_base.UUID, 'nova'),
                         (found['uuid'], found['only_in']))

    def test_servers_that_need_none_now(self):
        for number, (state, task) in enumerate((
                ('building', 'spawning'), ('building', None),
                ('error', None), ('active', 'migrating'))):
            self.servers.append(self.server(
                base.fake.uuid(100 + number), state, task))
        self.assertEqual([], self.differences())

    def test_no_credentials(self):
        openstack.connect.side_effect = (
            cloud.keystone.MissingRequiredOptions([]))
        status, text = self.status('--compare')
        self.assertEqual(2, status)
        self.assertIn('cannot compare with Nova', text)
