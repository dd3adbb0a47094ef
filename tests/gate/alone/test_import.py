# SPDX-License-Identifier: Apache-2.0
"""Domains of virsh and of Nova's old driver become servers that boot."""

from __future__ import annotations

import hashlib
import uuid

from labkit import config
from labkit import guest as guest_images
from labkit.cloud import database
from tests.gate import base
from tests.gate import commands

#: In dom0: the domain's disk, and what the command keeps of the domain.
DIRECTORY = '/var/lib/nova/gate-import'
KEPT = '/var/lib/nova/xen44-import-{uuid}.xml'

#: A PV guest that boots its own disk, as virt-install makes it.
DOMAIN = '''<domain type='xen'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>192</memory>
  <vcpu>1</vcpu>
  <bootloader>/usr/bin/pygrub</bootloader>
  <os><type arch='x86_64' machine='xenpv'>linux</type></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='{disk}'/>
      <target dev='xvda' bus='xen'/>
    </disk>
    <interface type='bridge'>
      <mac address='{mac}'/>
      <source bridge='br-int'/>
    </interface>
  </devices>
</domain>
'''


class Import(commands.CommandCase):
    """xen44-import in the dom0 of the first host."""

    def setUp(self) -> None:
        super().setUp()
        self.uuid = str(uuid.uuid4())
        self.name = self._name('domain')
        octets = uuid.UUID(self.uuid).bytes
        self.mac = '52:54:00:' + ':'.join(f'{octet:02x}'
                                          for octet in octets[:3])
        self.addCleanup(self.remove_all)
        disk = f'{DIRECTORY}/{self.uuid}.qcow2'
        self.dom0('mkdir', '--parents', DIRECTORY)
        self.host.copy_to(guest_images.small_guest().disk_qcow2, disk)
        self.disk = disk
        self.host.ssh(['virsh', 'define', '/dev/stdin'], input=DOMAIN.format(
            name=self.name, uuid=self.uuid, disk=disk, mac=self.mac))

    def remove_all(self) -> None:
        """Nothing is left, however far the test came."""
        for server in list(self.cloud.compute.servers()):
            if (server.metadata or {}).get('xen44_import') == self.uuid:
                self.remove_server(server.id)
        for port in list(self.cloud.network.ports(mac_address=self.mac)):
            if port.mac_address == self.mac:
                self.cloud.network.delete_port(port.id)
        for image in list(self.cloud.image.images(
                tag=f'xen44_import={self.uuid}')):
            self.cloud.image.delete_image(image.id)
        # By its UUID: Nova's domain has another.
        self.host.ssh(['virsh', 'undefine', self.uuid], check=False)
        self.host.ssh(['rm', '--recursive', '--force', DIRECTORY,
                       KEPT.format(uuid=self.uuid)])

    def names(self) -> list[str]:
        """Names of the domains that libvirt knows."""
        return self.dom0('virsh', 'list', '--all', '--name').split()

    @base.slow
    def test_new_server(self) -> None:
        flavor = self.make_flavor(self.addCleanup, guest_type='pv')
        argv = ('xen44-import', self.name, '--flavor', flavor.id,
                '--network', config.LAB_NET)

        [row] = self.run_command(*argv)['domains']
        self.assertEqual(
            ('new server', 'pv', 1, 192, [self.mac], [], []), tuple(
                row[key] for key in (
                    'way', 'guest_type', 'vcpus', 'memory_mib', 'macs',
                    'problems', 'needs')))
        self.assertGreater(row['disks'][0]['bytes'], 2 ** 20)
        self.assertIn(self.name, self.names())

        [row] = self.run_command(*argv, '--yes')['domains']
        self.assertEqual([], row['problems'])
        guest = base.Guest(self.cloud, row['server'])
        guest.wait_for_status('ACTIVE')
        guest.wait_for_login()
        self.assertEqual(self.mac, guest.port().mac_address)
        # The old domain is a file, with which it could be had again.
        self.assertNotIn(self.name, self.names())
        self.assertIn(guest.domain, self.names())
        self.assertIn(self.uuid, self.dom0(
            'cat', KEPT.format(uuid=self.uuid)))
        self.dom0('test', '-e', self.disk)
        # Once more: there is no such domain.
        self.run_command(*argv, '--yes', status=2)


#: What Nova's libvirt driver made of a PV guest (nova 21,
#: ``virt/libvirt/driver.py``: no boot loader is named, libvirt takes pygrub).
LEFT = '''<domain type="xen">
  <uuid>{uuid}</uuid>
  <name>{name}</name>
  <memory>196608</memory>
  <vcpu>1</vcpu>
  <metadata>
    <nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.0">
      <nova:package version="21.2.4"/>
      <nova:name>left</nova:name>
      <nova:creationTime>2021-05-11 09:30:11</nova:creationTime>
      <nova:flavor name="small">
        <nova:memory>192</nova:memory>
        <nova:disk>1</nova:disk>
        <nova:swap>0</nova:swap>
        <nova:ephemeral>0</nova:ephemeral>
        <nova:vcpus>1</nova:vcpus>
      </nova:flavor>
    </nova:instance>
  </metadata>
  <os><type>xen</type></os>
  <clock offset="utc"/>
  <devices>
    <disk type="file" device="disk">
      <driver name="qemu" type="qcow2" cache="none"/>
      <source file="{directory}/disk"/>
      <target bus="xen" dev="xvda"/>
    </disk>
    <interface type="bridge">
      <mac address="{mac}"/>
      <source bridge="br-int"/>
      <target dev="tap{port:.11}"/>
    </interface>
    <console type="pty"/>
  </devices>
</domain>
'''

# Both drivers call the image of an instance the same, but that one kept no
# record of it.
_LEAVE = r'''set -e
cd "$1"
mv disk.qcow2 disk
rm "../_base/$2.json"
echo '{}' > disk.info
chown root:root disk
chmod 644 disk
'''


class InPlace(commands.CommandCase):
    """What Nova's old libvirt driver left in the dom0 of the first host."""

    def leave(self, guest: base.Guest) -> None:
        """Make of a stopped server what that driver would have left."""
        port = guest.port()
        directory = f'{base.INSTANCES}/{guest.id}'
        stem = hashlib.sha1(self.image().id.encode(),
                            usedforsecurity=False).hexdigest()
        self.addCleanup(self.host.ssh, [
            'rm', '--force', KEPT.format(uuid=guest.id)])
        self.host.ssh(['sh', '-c', _LEAVE, 'sh', directory, stem])
        self.host.ssh(['virsh', 'undefine', guest.id])
        self.host.ssh(['virsh', 'define', '/dev/stdin'], input=LEFT.format(
            uuid=guest.id, name=guest.domain, directory=directory,
            mac=port.mac_address, port=port.id))
        database.query(
            'DELETE nova.instance_system_metadata '
            'FROM nova.instance_system_metadata '
            f"WHERE instance_uuid = '{guest.id}' "
            "AND `key` LIKE 'os_glance_xen44%';")

    @base.slow
    def test_goes_on(self) -> None:
        flavor = self.make_flavor(self.addCleanup, guest_type='pv')
        guest = self.make_server(self.addCleanup, flavor=flavor)
        guest.wait_for_status('ACTIVE')
        guest.wait_for_ssh()
        guest.ssh('echo kept > /root/mark && sync')
        self.cloud.compute.stop_server(guest.id)
        guest.wait_for_status('SHUTOFF')
        self.leave(guest)

        [row] = self.run_command('xen44-import', guest.id)['domains']
        self.assertEqual(
            ('in place', 'pv', [], []), tuple(row[key] for key in (
                'way', 'guest_type', 'problems', 'needs')))
        [row] = self.run_command('xen44-import', guest.id, '--yes')['domains']
        self.assertEqual((guest.id, []), (row['server'], row['problems']))

        self.cloud.compute.start_server(guest.id)
        guest.wait_for_status('ACTIVE')
        guest.wait_for_ssh()
        self.assertEqual('kept', guest.ssh('cat /root/mark').strip())
        before = guest.boot_id()
        self.cloud.compute.reboot_server(guest.id, 'HARD')
        guest.wait_for_reboot(before)
        self.assertEqual('kept', guest.ssh('cat /root/mark').strip())
        traces = self.traces(guest)
        self.remove_server(guest.id)
        traces.wait_for_none(self.host, self.cloud)
