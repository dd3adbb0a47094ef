# SPDX-License-Identifier: Apache-2.0
"""``xen44-import``: what can be imported, and what is left if it fails."""

import json
import os
import stat
import subprocess
from unittest import mock

import fixtures
import libvirt
from nova.compute import vm_states
import openstack
from openstack import exceptions

from tests.unit.cmd import base
from tests.unit.cmd import fakecloud
from xen44_driver import privsep
from xen44_driver.cmd import foreign
from xen44_driver.cmd import leftovers
from xen44_driver.cmd import stopped
from xen44_driver.xen import grub

MAC = '52:54:00:00:00:01'
MIB = 1024 ** 2
XL_ONLY = '99999999-1111-4111-8111-111111111111'
OF_NOVA = '''<metadata>
  <nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.0"/>
</metadata>'''
OS = {'pv': '<type arch="x86_64" machine="xenpv">linux</type>',
      'pvh': '<type arch="x86_64" machine="xenpvh">xenpvh</type>',
      'hvm': '<type arch="x86_64" machine="xenfv">hvm</type>'}


def disk_xml(source, target='xvda', format='raw', type='file'):
    return (f'<disk type="{type}" device="disk">'
            f'<driver name="qemu" type="{format}"/>'
            f'<source {"dev" if type == "block" else "file"}="{source}"/>'
            f'<target dev="{target}"/></disk>')


def nic_xml(mac=MAC, model='netfront'):
    return (f'<interface type="bridge"><mac address="{mac}"/>'
            f'<source bridge="br0"/><model type="{model}"/></interface>')


class ImportTestCase(base.CommandTestCase):
    """A host with a PV domain that is off, and a cloud."""

    def setUp(self):
        super().setUp()
        self.directory = self.useFixture(fixtures.TempDir()).path
        self.state = os.path.join(self.directory, 'state')
        os.mkdir(self.state)
        self.instances = os.path.join(self.directory, 'instances')
        os.mkdir(self.instances)
        self.flags(host='xen1', state_path=self.state,
                   instances_path=self.instances)
        self.flags(default_guest_type='hvm', group='xen44_x86_64')
        for kind in ('pv', 'pvh'):
            loader = self.file(f'loader-{kind}', b'grub')
            self.flags(**{f'{kind}_loader': loader}, group='xen44_x86_64')
        self.patch(privsep.sys_admin_pctxt, 'set_client_mode')
        self.xen = self.patch(privsep, 'running_domains', return_value={})
        self.cloud = fakecloud.Cloud()
        self.connect = self.patch(openstack, 'connect')
        self.connect.return_value.__enter__.return_value = self.cloud
        self.fake_time()
        self.root = self.file('root.raw', b'boot' + bytes(MIB - 4))
        self.pv = self.add(1, 'web', disk_xml(self.root), nic_xml())

    def file(self, name, content):
        path = os.path.join(self.directory, name)
        with open(path, 'wb') as file:
            file.write(content)
        return path

    def qcow2(self, name, *options):
        path = os.path.join(self.directory, name)
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', *options,
                        path, '2M'], check=True)
        return path

    def add(self, number, name, *devices, kind='pv', boot='', head='',
            running=False):
        state = self.libvirt.add(number, running=running, ours=False)
        state.name = name
        state.xml = (
            f'<domain type="xen"><name>{name}</name><uuid>{state.uuid}</uuid>'
            f'{head}<memory unit="KiB">262144</memory><vcpu>2</vcpu>'
            f'<os>{OS[kind]}{boot}</os>'
            f'<devices>{"".join(devices)}</devices></domain>')
        return state

    def json(self, *argv, status=0):
        found, text = self.run_import(*argv, '--json')
        self.assertEqual(status, found, text)
        return json.loads(text[text.index('{\n'):])

    def row(self, *argv, status=0):
        [row] = self.json(*argv, status=status)['domains']
        return row

    def import_(self, *argv, status=0):
        """Import the first domain."""
        return self.row('web', '--flavor', 'small', '--network', 'lan',
                        '--yes', *argv, status=status)

    def kept(self, state):
        return os.path.join(self.state, f'xen44-import-{state.uuid}.xml')

    def assert_nothing_made(self):
        for made in (self.cloud.images, self.cloud.volumes, self.cloud.ports_,
                     self.cloud.all_servers):
            self.assertEqual({}, made)
        self.assertIn(self.pv.uuid, self.libvirt.domains)


class GoldenTest(ImportTestCase):

    def assert_golden(self, name, text):
        # The manual shows it.
        for ours, its in ((self.instances, '/var/lib/nova/instances'),
                          (self.state, '/var/lib/nova'),
                          (self.directory, '/srv/xen')):
            text = text.replace(ours, its)
        super().assert_golden(name, text)

    def setUp(self):
        super().setUp()
        self.libvirt.add(9).xml = self.pv.xml
        overlay = self.qcow2('overlay', '-b', self.root, '-F', 'raw')
        self.add(2, 'n\x9bme', disk_xml(self.root, 'hda'),
                 nic_xml(model='e1000'), kind='hvm', running=True)
        self.add(3, 'overlay', disk_xml(overlay, format='qcow2'),
                 '<hostdev/>', kind='pvh')
        self.xen.return_value = {XL_ONLY: 'of xl'}
        left = self.add(4, 'instance-00000004', disk_xml(
            os.path.join(self.instances, base.fake.uuid(4), 'disk'),
            format='qcow2'), head=OF_NOVA)
        self.cloud.all_servers[left.uuid] = {
            'id': left.uuid, 'name': 'old', 'vm_state': vm_states.ACTIVE,
            'task_state': None, 'flavor': {'extra_specs': {}}}

    def test_list(self):
        status, text = self.run_import()
        self.assertEqual(0, status, text)
        self.assert_golden('import.txt', text)
        self.assertEqual([], self.cloud.calls)

    def test_list_json(self):
        status, text = self.run_import('--json')
        self.assertEqual(0, status, text)
        self.assert_golden('import.json', text)

    def test_new_server(self):
        status, text = self.run_import(
            'web', '--flavor', 'small', '--network', 'lan', '--yes')
        self.assertEqual(0, status, text)
        self.assert_golden('import-new.txt', text)

    def test_in_place(self):
        self.cloud.all_servers[base.fake.uuid(4)].update(
            vm_state=vm_states.STOPPED,
            flavor={'extra_specs': {'xen44:guest_type': 'pv'}})
        os.mkdir(os.path.join(self.instances, base.fake.uuid(4)))
        self.file(f'instances/{base.fake.uuid(4)}/disk', b'QFI')
        status, text = self.run_import('instance-00000004', '--yes')
        self.assertEqual(0, status, text)
        self.assert_golden('import-in-place.txt', text)

    def test_failed(self):
        self.cloud.status = 'ERROR'
        self.cloud.fail['delete_port'] = exceptions.HttpException('no route')
        status, text = self.run_import(
            'web', '--flavor', 'small', '--network', 'lan', '--yes')
        self.assertEqual(1, status, text)
        self.assert_golden('import-failed.txt', text)


class ListTest(ImportTestCase):
    """Without --yes."""

    def problems(self):
        return self.row('web')['problems']

    def change(self, *devices, **options):
        del self.libvirt.domains[self.pv.uuid]
        self.pv = self.add(1, 'web', *devices, **options)
        found = self.row('web', status=1)
        self.assertFalse(found['possible'])
        [problem] = found['problems']
        return problem

    def test_possible(self):
        found = self.row('web', '--flavor', 'small', '--network', 'lan')
        self.assertEqual(('new server', True, [], []), tuple(
            found[key] for key in ('way', 'possible', 'problems', 'needs')))
        self.assertEqual([{'target': 'xvda', 'path': self.root,
                           'format': 'raw', 'bytes': MIB}], found['disks'])
        self.assertEqual([], self.cloud.calls)
        self.assertFalse(os.path.exists(self.kept(self.pv)))

    def test_needs(self):
        found = self.row('web', status=1)
        self.assertTrue(found['possible'])
        self.assertEqual(
            ['--flavor, with 2 vCPUs, 256 MiB of memory and a disk of 1 GiB',
             f'--network, or a port with the address {MAC}'], found['needs'])

    def test_small_flavor(self):
        self.cloud.flavor.update(vcpus=1, ram=128)
        needs = self.row('web', '--flavor', 'small', '--network', 'lan',
                         status=1)['needs']
        self.assertEqual(2, len(needs), needs)
        self.assertIn('has 1 vCPUs, and the domain 2', needs[0])
        self.assertIn('has 128 MiB of memory, and the domain 256', needs[1])

    def test_flavor_of_another_type(self):
        self.cloud.flavor['extra_specs'] = {'xen44:guest_type': 'hvm'}
        [need] = self.row('web', '--flavor', 'small', '--network', 'lan',
                          status=1)['needs']
        self.assertIn('hvm', need)

    def test_flavor_with_cpus_of_its_own(self):
        """The host has none."""
        self.cloud.flavor['extra_specs'] = {'hw:cpu_policy': 'dedicated'}
        [need] = self.row('web', '--flavor', 'small', '--network', 'lan',
                          status=1)['needs']
        self.assertIn('cpu_dedicated_set', need)

    def test_pvh_needs_a_flavor_of_it(self):
        self.add(2, 'pvh', disk_xml(self.root), kind='pvh')
        [need] = self.row('pvh', '--flavor', 'small', status=1)['needs']
        self.assertIn('xen44:guest_type=pvh', need)
        self.cloud.flavor['extra_specs'] = {'xen44:guest_type': 'pvh'}
        self.assertEqual([], self.row('pvh', '--flavor', 'small')['needs'])

    def test_no_loader(self):
        os.unlink(os.path.join(self.directory, 'loader-pv'))
        self.patch(grub, 'find', return_value=None)
        [need] = self.row('web', '--flavor', 'small', '--network', 'lan',
                          status=1)['needs']
        self.assertIn('loader', need)

    def test_no_such_flavor(self):
        status, text = self.run_import('web', '--flavor', 'other')
        self.assertEqual(2, status)
        self.assertIn('no flavor other', text)

    def test_port_in_use(self):
        self.cloud.ports_['p'] = {'id': 'p', 'mac_address': MAC,
                                  'project_id': fakecloud.PROJECT,
                                  'device_id': 'somebody'}
        [need] = self.row('web', '--flavor', 'small', status=1)['needs']
        self.assertIn('port p has it, of somebody', need)

    def test_port_of_another_project(self):
        """Such a project gives its ports addresses as it likes."""
        self.cloud.ports_['p'] = {
            'id': 'p', 'mac_address': MAC, 'device_id': '',
            'project_id': 'other', 'network_id': 'id-of-theirs'}
        [need] = self.row('web', '--flavor', 'small', status=1)['needs']
        self.assertIn('--network, or a port', need)
        self.assertEqual([], self.row('web', '--flavor', 'small', '--network',
                                      'lan')['needs'])
        [need] = self.row('web', '--flavor', 'small', '--network', 'theirs',
                          status=1)['needs']
        self.assertIn('port p has it, of another project', need)

    def test_networks(self):
        self.add(2, 'three', disk_xml(self.root), *(
            nic_xml(f'52:54:00:00:00:1{n}') for n in range(3)))
        argv = ('three', '--flavor', 'small', '--network', 'a', '--network',
                'b')
        [need] = self.row(*argv, status=1)['needs']
        self.assertIn('3 times', need)
        self.assertEqual([], self.row(*argv, '--network', 'c')['needs'])

    def test_running(self):
        self.assertEqual('it is running: shut it down', self.change(
            disk_xml(self.root), running=True))

    def test_running_by_xl(self):
        """libvirt knows the definition only, and calls it off."""
        for uuid, name in ((self.pv.uuid, 'web'), (XL_ONLY, 'web')):
            self.xen.return_value = {uuid: name}
            [row] = self.json()['domains']
            self.assertIn('shut it down with xl', row['problems'][0])
        self.import_(status=1)
        self.assert_nothing_made()

    def test_saved_memory(self):
        self.pv.saved = True
        self.assertIn('its memory is saved',
                      self.row('web', status=1)['problems'][0])

    def test_guest_wrote_a_header(self):
        """The format is the definition's; the content is not believed."""
        overlay = self.qcow2('evil', '-b', '/etc/shadow', '-F', 'raw', '-u')
        for format in ('raw', 'qcow2'):
            self.assertIn('not safe to use', self.change(
                disk_xml(overlay, format=format)))
        self.assertIn('it is recorded as raw, and its content is qcow2',
                      self.change(disk_xml(self.qcow2('whole'))))

    def test_disks(self):
        for devices, problem in (
                ((), 'it has no disk'),
                ((disk_xml('/no/such'),), 'No such file'),
                ((disk_xml(self.file('empty', b'')),), 'empty'),
                ((disk_xml(self.root, 'xvda1'),), "disk.target: 'xvda1'"),
                ((disk_xml(self.root, format='vmdk'),), "format: 'vmdk'"),
                (('<disk type="network"><target dev="xvdb"/></disk>',),
                 "type of disk xvdb: 'network'"),
                ((disk_xml(self.root), '<hostdev/>'), 'hostdev')):
            with self.subTest(problem):
                self.assertIn(problem, self.change(*devices))

    def test_cdrom_is_no_disk(self):
        cdrom = ('<disk type="file" device="cdrom"><source file="/a.iso"/>'
                 '<target dev="hdc"/></disk>')
        self.add(2, 'hvm', disk_xml(self.root, 'hda'), cdrom, kind='hvm')
        self.assertEqual(['hda'], [
            disk['target'] for disk in self.row('hvm', status=1)['disks']])

    def test_missing_kernel(self):
        self.assertIn('/no/vmlinuz', self.change(
            disk_xml(self.root), boot='<kernel>/no/vmlinuz</kernel>'))

    def test_of_cloudstack(self):
        self.assertEqual('it is CloudStack\'s', self.change(
            disk_xml(self.root), head='''<metadata>
              <c:instance xmlns:c="urn:xen44-driver:cloudstack:1">
              <c:name>i-2-3-VM</c:name></c:instance></metadata>'''))

    def test_unknown_name(self):
        self.libvirt.add(9).xml = self.pv.xml
        for name in ('nothing', 'guest-9'):
            status, text = self.run_import(name)
            self.assertEqual(2, status)
            self.assertIn(f'there is no domain {name} here', text)

    def test_by_uuid(self):
        self.add(2, 'other', disk_xml(self.root))
        self.assertEqual('web', self.row(self.pv.uuid, status=1)['domain'])

    def test_name_that_is_the_uuid_of_another(self):
        self.add(2, self.pv.uuid, disk_xml(self.root))
        self.assertEqual('web', self.row(self.pv.uuid, status=1)['domain'])

    def test_not_root(self):
        self.patch(os, 'geteuid', lambda: 1000)
        self.assertEqual((2, 'xen44-import: run it as root\n'),
                         self.run_import())

    def test_yes_needs_names(self):
        status, text = self.run_import('--yes')
        self.assertEqual(2, status)
        self.assertIn('name the domains', text)

    def test_no_libvirt(self):
        self.stop_libvirt()
        status, text = self.run_import()
        self.assertEqual(2, status)
        self.assertIn('refused', text)


class WrittenTest(base.CommandTestCase):
    """What shows that something has written to a disk."""

    def test_block_device(self):
        """The kernel's counters: of writes and discards, not of reads."""
        directory = self.useFixture(fixtures.TempDir()).path
        self.patch(foreign, 'BLOCK_DEVICES', directory)
        os.mkdir(os.path.join(directory, '253:7'))
        device = mock.Mock(st_mode=stat.S_IFBLK, st_rdev=os.makedev(253, 7))

        def written(changed):
            counters = ['9'] * 17
            if changed is not None:
                counters[changed] = '10'
            with open(os.path.join(directory, '253:7', 'stat'), 'w') as file:
                file.write(' '.join(counters))
            with mock.patch.object(os, 'stat', return_value=device):
                return foreign.written('/dev/vg/web')

        before = written(None)
        for field, differs in ((0, False), (2, False), (4, True), (6, True),
                               (11, True), (13, True)):
            with self.subTest(field):
                self.assertEqual(differs, before != written(field))


class NewServerTest(ImportTestCase):
    """With --yes."""

    def values(self):
        [values] = [what for name, what in self.cloud.calls
                    if name == 'create_server']
        return values

    def test_made(self):
        found = self.import_()
        [server] = self.cloud.all_servers
        self.assertEqual(server, found['server'])
        [(image, its)] = self.cloud.images.items()
        with open(self.root, 'rb') as file:
            self.assertEqual(file.read(), its['content'])
        self.assertEqual(
            {'disk_format': 'raw', 'container_format': 'bare', 'min_disk': 1,
             'hw_vm_mode': 'xen', 'img_hv_type': 'xen',
             'img_config_drive': 'optional',
             'tags': [f'xen44_import={self.pv.uuid}'], 'xen44_import': None},
            {key: its.get(key) for key in (
                'disk_format', 'container_format', 'min_disk', 'hw_vm_mode',
                'img_hv_type', 'img_config_drive', 'tags', 'xen44_import')})
        self.assertNotIn('kernel_id', its)
        [(port, made)] = self.cloud.ports_.items()
        self.assertEqual(('id-of-lan', MAC),
                         (made['network_id'], made['mac_address']))
        self.assertEqual(
            ('web', 'f1', image, [{'port': port}], self.pv.uuid), (
                *(self.values()[key] for key in (
                    'name', 'flavor_id', 'image_id', 'networks')),
                self.values()['metadata']['xen44_import']))
        # The old domain is kept in words only; its disk stays.
        self.assertNotIn(self.pv.uuid, self.libvirt.domains)
        self.assertTrue(os.path.exists(self.root))
        kept = self.kept(self.pv)
        with open(kept, encoding='utf-8') as file:
            self.assertEqual(self.pv.xml, file.read())
        self.assertEqual(0o600, stat.S_IMODE(os.stat(kept).st_mode))

    def test_qcow2_in_a_link(self):
        """As a logical volume has; the format is kept."""
        os.unlink(self.root)
        os.symlink(self.qcow2('other'), self.root)
        self.pv.xml = self.pv.xml.replace('type="raw"', 'type="qcow2"')
        self.import_()
        [image] = self.cloud.images.values()
        self.assertEqual('qcow2', image['disk_format'])
        self.assertTrue(image['content'].startswith(b'QFI'))

    def test_unused_port(self):
        self.cloud.ports_['p'] = {'id': 'p', 'mac_address': MAC,
                                  'project_id': fakecloud.PROJECT,
                                  'device_id': ''}
        self.row('web', '--flavor', 'small', '--yes')
        self.assertEqual([{'port': 'p'}], self.values()['networks'])
        self.assertEqual(['p'], [*self.cloud.ports_])

    def test_without_interface(self):
        self.add(2, 'alone', disk_xml(self.root))
        self.row('alone', '--flavor', 'small', '--yes')
        self.assertEqual('none', self.values()['networks'])

    def test_direct_kernel(self):
        self.flags(allow_image_kernels=True, group='xen44')
        kernel = self.file('vmlinuz', b'kernel')
        self.add(2, 'old', disk_xml(self.root), boot=(
            f'<kernel>{kernel}</kernel>'
            f'<initrd>{self.file("initrd", b"ramdisk")}</initrd>'
            '<cmdline>root=/dev/xvda ro</cmdline>'))
        self.row('old', '--flavor', 'small', '--yes')
        by_format = {image['disk_format']: image
                     for image in self.cloud.images.values()}
        self.assertEqual(b'kernel', by_format['aki']['content'])
        self.assertEqual(b'ramdisk', by_format['ari']['content'])
        root = by_format['raw']
        self.assertEqual(
            (by_format['aki']['id'], by_format['ari']['id'],
             'root=/dev/xvda ro'),
            (root['kernel_id'], root['ramdisk_id'], root['os_command_line']))

    def test_kernel_behind_a_link(self):
        """As Debian's /vmlinuz is."""
        self.flags(allow_image_kernels=True, group='xen44')
        link = os.path.join(self.directory, 'link')
        os.symlink(self.file('vmlinuz', b'kernel'), link)
        self.add(2, 'old', disk_xml(self.root), boot=(
            f'<kernel>{link}</kernel><cmdline>ro</cmdline>'))
        self.row('old', '--flavor', 'small', '--yes')
        self.assertIn(b'kernel', [
            image['content'] for image in self.cloud.images.values()])

    def test_name_that_nova_refuses(self):
        self.add(2, ' n\x9bme ', disk_xml(self.root))
        self.row(' n\x9bme ', '--flavor', 'small', '--yes')
        self.assertEqual('n_me', self.values()['name'])

    def test_loaders_are_no_kernels(self):
        for number, boot in enumerate((
                '<kernel>/usr/lib/grub-xen/grub-x86_64-xen.bin</kernel>',
                '<kernel>/usr/lib/xen/boot/pv-grub-x86_64.gz</kernel>'
                '<cmdline>(hd0)/boot/grub/menu.lst</cmdline>')):
            self.add(2 + number, f'pv{number}', disk_xml(self.root),
                     boot=boot)
            self.assertTrue(self.row(f'pv{number}', status=1)['possible'])
        self.add(7, 'pygrub', disk_xml(self.root),
                 head='<bootloader>pygrub</bootloader>')
        self.row('pygrub', '--flavor', 'small', '--yes')
        [image] = self.cloud.images.values()
        self.assertNotIn('kernel_id', image)

    def test_hvm(self):
        firmware = self.file('OVMF.fd', b'uefi')
        self.flags(uefi_firmware=firmware, group='xen44_x86_64')
        self.add(2, 'win', disk_xml(self.root, 'sda'), nic_xml(model='e1000'),
                 kind='hvm', head='<clock offset="localtime"/>',
                 boot=f'<loader type="pflash">{firmware}</loader>')
        self.row('win', '--flavor', 'small', '--network', 'lan', '--yes')
        [image] = self.cloud.images.values()
        self.assertEqual(
            ('hvm', 'uefi', 'windows', 'e1000', 'scsi'), tuple(
                image[key] for key in (
                    'hw_vm_mode', 'hw_firmware_type', 'os_type',
                    'hw_vif_model', 'hw_disk_bus')))

    def test_second_disk(self):
        data = self.file('data.raw', b'data' + bytes(MIB))
        self.add(2, 'two', disk_xml(self.root), disk_xml(data, 'xvdb'))
        self.row('two', '--flavor', 'small', '--yes')
        [(volume, its)] = self.cloud.volumes.items()
        self.assertEqual(('two-xvdb', 1), (its['name'], its['size']))
        self.assertEqual(
            [('image', 0), ('volume', -1)],
            [(disk['source_type'], disk['boot_index'])
             for disk in self.values()['block_device_mapping']])
        self.assertEqual(volume,
                         self.values()['block_device_mapping'][1]['uuid'])
        # Its image was a means only.
        self.assertEqual(['two-xvda'], [
            image['name'] for image in self.cloud.images.values()])

    def test_each_failure_is_undone(self):
        data = self.file('data.raw', b'data' + bytes(MIB))
        del self.libvirt.domains[self.pv.uuid]
        self.pv = self.add(1, 'web', disk_xml(self.root),
                           disk_xml(data, 'xvdb'), nic_xml())
        for name in ('create_image', 'create_volume', 'create_port',
                     'create_server'):
            with self.subTest(name):
                self.cloud.fail[name] = exceptions.HttpException('no quota')
                problems = self.import_(status=1)['problems']
                self.assertEqual(1, len(problems))
                self.assertIn('no quota', problems[0])
                self.assert_nothing_made()
        self.cloud.volume_status = 'error'
        self.assertIn('is in error', self.import_(status=1)['problems'][0])
        self.assert_nothing_made()
        self.cloud.volume_status = 'available'
        self.cloud.status = 'ERROR'
        self.assertIn('No valid host', self.import_(status=1)['problems'][0])
        self.assert_nothing_made()
        self.cloud.status = 'BUILD'
        self.assertIn('within 60 s', self.import_(
            '--timeout', '60', status=1)['problems'][0])
        self.assert_nothing_made()

    def test_killed_after_it_asked_for_the_server(self):
        """The next run takes that server, and makes nothing again."""
        self.import_()
        [server] = self.cloud.all_servers
        self.libvirt.domains[self.pv.uuid] = self.pv
        self.cloud.calls.clear()
        for port in self.cloud.ports_.values():
            port['device_id'] = server
        self.assertIn(server, self.row('web')['done'][0])
        self.assertEqual(server, self.import_()['server'])
        self.assertEqual([], self.cloud.calls)
        self.assertNotIn(self.pv.uuid, self.libvirt.domains)

    def test_killed_while_it_uploaded(self):
        for number, status in enumerate(('saving', 'active', 'deactivated')):
            self.cloud.images[f'i{number}'] = {
                'id': f'i{number}', 'status': status,
                'tags': [f'xen44_import={self.pv.uuid}']}
        # As a snapshot has the properties of its server's image.
        self.cloud.images['other'] = {'id': 'other', 'status': 'saving',
                                      'xen44_import': self.pv.uuid}
        status, text = self.run_import(
            'web', '--flavor', 'small', '--network', 'lan', '--yes')
        self.assertEqual(0, status, text)
        self.assertNotIn('i0', self.cloud.images)
        for image in ('i1', 'i2', 'other'):
            self.assertIn(image, self.cloud.images)
        self.assertIn('openstack image delete i1', text)
        self.assertIn('openstack image delete i2', text)

    def test_killed_after_it_made_a_volume(self):
        self.add(2, 'two', disk_xml(self.root), disk_xml(self.root, 'xvdb'))
        for number in (2, 3):
            self.cloud.volumes[f'v{number}'] = {
                'metadata': {'xen44_import': base.fake.uuid(number)}}
        status, text = self.run_import('two', '--flavor', 'small', '--yes')
        self.assertEqual(0, status, text)
        self.assertIn('openstack volume delete v2', text)
        self.assertNotIn('v3', text)

    def again(self):
        """As if the run had been killed before it undefined the domain.

        :returns: the server.
        """
        self.import_()
        self.libvirt.domains[self.pv.uuid] = self.pv
        self.cloud.calls.clear()
        [server] = self.cloud.all_servers.values()
        return server

    def test_earlier_server_is_of_old_content(self):
        """The domain ran on since; the server is not what it is now."""
        server = self.again()['id']
        with open(self.root, 'r+b') as file:
            file.write(b'new')
        for yes in ((), ('--yes',)):
            found = self.row('web', '--flavor', 'small', '--network', 'lan',
                             *yes, status=1)
            self.assertEqual(1, len(found['problems']))
            self.assertIn(f'openstack server delete {server}',
                          found['problems'][0])
            self.assertEqual([], found['done'])
        self.assertIn(self.pv.uuid, self.libvirt.domains)
        self.assertEqual([], self.cloud.calls)

    def test_server_that_a_user_marked(self):
        """A project's users write the metadata of their servers."""
        self.cloud.all_servers['theirs'] = {
            'id': 'theirs', 'status': 'ACTIVE',
            'metadata': {'xen44_import': self.pv.uuid}}
        found = self.import_(status=1)
        self.assertIn('server theirs was made of it', found['problems'][0])
        self.assertIn(self.pv.uuid, self.libvirt.domains)

    def test_earlier_server_was_stopped_since(self):
        self.again()['status'] = 'SHUTOFF'
        self.assertIsNotNone(self.import_()['server'])

    def test_earlier_server_failed(self):
        server = self.again()
        server['status'] = 'ERROR'
        self.assertIn(f'openstack server delete {server["id"]}',
                      self.import_(status=1)['problems'][0])

    def test_nova_goes_away(self):
        """The server may run; so all that it uses stays, for another run."""
        self.cloud.status = 'BUILD'
        away = exceptions.HttpException('away', http_status=503)
        self.cloud.fail['delete_server'] = away
        found = self.import_('--timeout', '60', status=1)
        self.assertIn('away', found['problems'][0])
        self.assertLess(self.now, 70)
        [server] = self.cloud.all_servers.values()
        self.assertEqual((1, 1), (len(self.cloud.images),
                                  len(self.cloud.ports_)))
        server['status'] = 'ACTIVE'
        self.assertEqual(server['id'], self.import_()['server'])

    def test_interrupted_while_the_server_is_removed(self):
        self.cloud.status = 'ERROR'
        self.cloud.fail['delete_server'] = KeyboardInterrupt()
        status, text = self.run_import(
            'web', '--flavor', 'small', '--network', 'lan', '--yes')
        self.assertEqual(2, status, text)
        self.assertEqual((1, 1, 1), (
            len(self.cloud.all_servers), len(self.cloud.images),
            len(self.cloud.ports_)))

    def test_answer_is_lost(self):
        """Nova makes the server all the same."""
        create = self.cloud.create_server

        def lose(**values):
            create(**values)
            raise exceptions.HttpException('no answer')

        self.patch(self.cloud, 'create_server', lose)
        self.assertIn('no answer', self.import_(status=1)['problems'][0])
        self.assert_nothing_made()

    def test_nova_is_away_for_a_moment(self):
        self.cloud.fail['get_server'] = exceptions.HttpException(
            'away', http_status=503)
        self.assertIsNotNone(self.import_()['server'])

    def test_image_of_a_volume_is_left(self):
        self.add(2, 'two', disk_xml(self.root), disk_xml(self.root, 'xvdb'))
        self.cloud.fail['delete_image'] = exceptions.HttpException('away')
        status, text = self.run_import('two', '--flavor', 'small', '--yes')
        self.assertEqual(0, status, text)
        left, = (image for image, its in self.cloud.images.items()
                 if its['name'] == 'two-xvdb')
        self.assertIn(f'Image {left} is left: away', text)

    def test_written_meanwhile(self):
        """By a domain that has the disk, too, or that ran for a moment."""
        def write():
            with open(self.root, 'r+b') as file:
                file.write(b'new')

        self.cloud.at_upload = write
        [problem] = self.import_(status=1)['problems']
        self.assertIn('something has written to disk xvda', problem)
        self.assertIn(self.pv.uuid, self.libvirt.domains)

    def test_started_while_another_was_imported(self):
        other = self.add(2, 'zz', disk_xml(self.root))
        self.cloud.at_upload = lambda: self.libvirt.run(other)
        found = self.json('web', 'zz', '--flavor', 'small', '--network',
                          'lan', '--yes', status=1)['domains'][1]
        self.assertIn('started meanwhile', found['problems'][0])
        self.assertEqual(1, len(self.cloud.images))

    def test_started_meanwhile(self):
        create = self.cloud.create_server

        def start(**values):
            self.libvirt.run(self.pv)
            return create(**values)

        self.patch(self.cloud, 'create_server', start)
        found = self.import_(status=1)
        self.assertIn('started meanwhile', found['problems'][0])
        self.assertIsNone(found['server'])
        self.assertIn(self.pv.uuid, self.libvirt.domains)

    def test_cannot_be_undefined(self):
        self.libvirt.fail['undefine'] = base.fake.error(
            libvirt.VIR_ERR_OPERATION_FAILED)
        found = self.import_(status=1)
        self.assertEqual(1, len(found['problems']))
        # Again: it goes on with the server that is there.
        self.assertIsNotNone(self.import_()['server'])
        self.assertEqual(1, len(self.cloud.all_servers))

    def test_one_fails_and_the_other_not(self):
        self.add(2, 'other', disk_xml(self.root))
        self.cloud.fail['create_port'] = exceptions.HttpException('no quota')
        rows = self.json('web', 'other', '--flavor', 'small', '--network',
                         'lan', '--yes', status=1)['domains']
        self.assertEqual({'other': True, 'web': False}, {
            row['domain']: row['server'] is not None for row in rows})

    def test_two_at_once(self):
        with stopped.locked():
            status, text = self.run_import('web', '--yes')
        self.assertEqual(2, status)
        self.assertIn('another xen44-host', text)


class InPlaceTest(ImportTestCase):
    """What Nova's libvirt driver left."""

    def setUp(self):
        super().setUp()
        self.left = self.add(
            4, 'instance-4', disk_xml(self.path('disk'), format='qcow2'),
            disk_xml(self.path('disk.swap'), 'xvdb'),
            disk_xml('/dev/disk/by-path/volume', 'xvdc', type='block'),
            nic_xml(), head=OF_NOVA)
        os.mkdir(self.path(''))
        self.overlay = self.qcow2(self.path('disk'), '-b', self.root, '-F',
                                  'raw')
        os.chmod(self.overlay, 0o644)
        self.server = self.cloud.all_servers[self.left.uuid] = {
            'id': self.left.uuid, 'vm_state': vm_states.STOPPED,
            'task_state': None, 'image': {'id': 'i'},
            'flavor': {'extra_specs': {'xen44:guest_type': 'pv'}}}

    def path(self, name):
        return os.path.join(self.instances, base.fake.uuid(4), name)

    def take(self, *argv, status=0):
        return self.row('instance-4', *argv, status=status)

    def assert_problem(self, text):
        found = self.take('--yes', status=1)
        self.assertEqual('in place', found['way'])
        self.assertEqual(1, len(found['problems']), found)
        self.assertIn(text, found['problems'][0])
        self.assertIn(self.left.uuid, self.libvirt.domains)
        self.assertTrue(os.path.lexists(self.path('disk')))

    def test_taken(self):
        self.assertEqual('in place', self.take()['way'])
        found = self.take('--yes')
        self.assertEqual(self.left.uuid, found['server'])
        self.assertEqual(['disk.qcow2'], os.listdir(self.path('')))
        self.assertEqual(0o600, stat.S_IMODE(
            os.stat(self.path('disk.qcow2')).st_mode))
        self.assertNotIn(self.left.uuid, self.libvirt.domains)
        self.assertTrue(os.path.exists(self.kept(self.left)))
        self.assertEqual([], self.cloud.calls)

    def test_started_meanwhile(self):
        """Its server is the one with its disks: not to be deleted."""
        take = leftovers.take

        def start(foreign):
            take(foreign)
            self.libvirt.run(self.left)

        self.patch(leftovers, 'take', start)
        [problem] = self.take('--yes', status=1)['problems']
        self.assertIn('shut it down', problem)
        self.assertNotIn('delete', problem)
        self.assertIn(self.left.uuid, self.libvirt.domains)

    def test_killed_after_it_renamed(self):
        os.rename(self.path('disk'), self.path('disk.qcow2'))
        self.assertEqual(self.left.uuid, self.take('--yes')['server'])
        self.assertEqual(['disk.qcow2'], os.listdir(self.path('')))

    def test_raw(self):
        self.left.xml = self.left.xml.replace('type="qcow2"', 'type="raw"')
        # Whatever the guest wrote at its beginning.
        self.take('--yes')
        self.assertEqual(['disk.raw'], os.listdir(self.path('')))

    def test_not_stopped(self):
        self.server['vm_state'] = vm_states.ACTIVE
        self.assert_problem('openstack server stop')
        self.server.update(vm_state=vm_states.STOPPED, task_state='deleting')
        self.assert_problem('deleting')

    def test_link(self):
        os.rename(self.path('disk'), self.path('real'))
        os.symlink('real', self.path('disk'))
        self.assert_problem('is not a file')

    def test_two_root_disks(self):
        open(self.path('disk.qcow2'), 'w').close()
        self.assert_problem('there are both')

    def test_root_volume(self):
        self.left.xml = self.left.xml.replace(self.path('disk"'), '/dev/sdq"')
        self.assert_problem('no disk of the domain is')

    def test_other_disks(self):
        for name, format, problem in (
                ('disk.swap', 'qcow2', 'qemu-img convert -f qcow2 -O raw'),
                ('disk.local', 'raw', 'called disk.local')):
            with self.subTest(name):
                self.left.xml = self.left.xml.replace(
                    disk_xml(self.path('disk.swap'), 'xvdb'),
                    disk_xml(self.path(name), 'xvdb', format))
                self.assert_problem(problem)
                self.left.xml = self.left.xml.replace(
                    disk_xml(self.path(name), 'xvdb', format),
                    disk_xml(self.path('disk.swap'), 'xvdb'))

    def test_guest_type(self):
        """The old driver made it PV without being asked to."""
        self.server['flavor'] = {'extra_specs': {}}
        self.assert_problem('default_guest_type = pv')
        # The image may have asked for it.
        self.cloud.images['i'] = {'id': 'i', 'hw_vm_mode': 'xen'}
        self.assertEqual([], self.take()['problems'])
        self.cloud.images['i'] = {'id': 'i', 'vm_mode': 'xen'}
        self.assertEqual([], self.take()['problems'])

    def test_unknown_to_nova(self):
        """Then it is a domain as any other."""
        del self.cloud.all_servers[self.left.uuid]
        self.assertEqual('new server', self.take(status=1)['way'])
