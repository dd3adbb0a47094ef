# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
import string

import hypothesis
from hypothesis import strategies as st
from lxml import etree
from oslotest import base

from tests.unit import schema
from tests.unit.xen import specs
from xen44_driver.xen import arch
from xen44_driver.xen import domain
from xen44_driver.xen import errors
from xen44_driver.xen.arch.aarch64 import Aarch64
from xen44_driver.xen.arch.x86_64 import X86_64
from xen44_driver.xen.domain import metadata as metadata_lib
from xen44_driver.xen.domain import xml as xml_lib

# Examples that differ from run to run find more, but a test that fails today
# should fail tomorrow.
_settings = hypothesis.settings(
    max_examples=60, deadline=None, database=None, derandomize=True,
    suppress_health_check=[
        hypothesis.HealthCheck.too_slow,
        # A mutation run does each test many times in one process.
        hypothesis.HealthCheck.differing_executors])


# Anything at all, also what XML cannot carry, what ends an attribute or an
# element, and what a parser would expand.
_text = st.text(max_size=40) | st.sampled_from([
    '\x00', '\x0b', '\ud800', '\ufffe', ']]>', '<!--', '&amp;', '&x;',
    '"/><disk type="file"/>', "'/><disk/>", '</cmdline><initrd>/x</initrd>',
    '<![CDATA[', ' x ', 'a\nb', 'a\r\nb', 'a\tb', '\u2028'])
_word = st.text(string.ascii_letters + string.digits, min_size=1,
                max_size=11)
_json = st.dictionaries(_text, _text).map(json.dumps)
_path = _word.map(lambda word: f'/srv/{word}')


@st.composite
def _specs(draw: st.DrawFn) -> domain.DomainSpec:
    architecture = draw(st.sampled_from([X86_64(), Aarch64()]))
    guest_type = draw(st.sampled_from(architecture.guest_types))
    hvm = guest_type is domain.GuestType.HVM
    boots = [st.builds(
        domain.DirectBoot, kernel=_path, ramdisk=st.none() | _path,
        cmdline=st.text(st.characters(codec='utf-8', exclude_categories=(
            'Cc', 'Cs', 'Zl', 'Zp', 'Zs', 'Cn'))))]
    boots.append(
        st.builds(domain.FirmwareBoot, devices=st.lists(
            st.sampled_from(['hd', 'cdrom']), min_size=1,
            unique=True).map(tuple)) if hvm
        else st.builds(domain.GrubBoot, loader=_path))
    prefix = draw(st.sampled_from(['hd', 'sd', 'xvd'])) if hvm else 'xvd'
    letters = 'abcdefghijk' if prefix == 'xvd' else 'abcd'
    disks = [domain.Disk(
        target=f'{prefix}{letter}', source=draw(_path),
        type=draw(st.sampled_from(['file', 'block'])) if by_kernel
        else 'file',
        by_kernel=by_kernel,
        format='raw' if by_kernel else draw(
            st.sampled_from(['raw', 'qcow2'])),
        readonly=draw(st.booleans()) if not hvm else letter > 'd')
        for letter in draw(st.sets(st.sampled_from(letters), max_size=4))
        for by_kernel in [draw(st.booleans())]]
    spice = draw(st.none() | st.builds(
        domain.Spice, socket=_path, agent=st.booleans(),
        options=st.lists(st.sampled_from(
            ['image-compression=off', 'streaming-video=all']),
            unique=True).map(tuple)))
    return domain.DomainSpec(
        uuid=str(draw(st.uuids())), name=draw(_word),
        arch=architecture.name, guest_type=guest_type,
        memory_mib=draw(st.integers(1, 2 ** 24)),
        vcpus=(vcpus := draw(st.integers(1, 512))),
        boot=draw(st.one_of(boots)),
        cpus=draw(st.just(()) | st.lists(
            st.frozensets(st.integers(0, 511), min_size=1, max_size=3),
            min_size=vcpus, max_size=vcpus).map(tuple)),
        clock=draw(st.sampled_from(['utc', 'localtime'])),
        disks=tuple(disks),
        interfaces=tuple(draw(st.lists(st.builds(
            domain.Interface, ovs=st.just(ovs := draw(st.booleans())),
            vlan=st.none() | st.integers(1, 4094) if ovs else st.none(),
            mac=st.sampled_from(['00:16:3e:00:00:01', 'fa:16:3e:ff:0a:10']),
            bridge=_word,
            model=st.sampled_from([None, 'netfront'] + ['e1000'] * hvm),
            mtu=st.none() | st.integers(68, 65535),
            outbound_kib=st.none() | st.integers(1, 2 ** 30)), max_size=3))),
        screen=draw(st.none() | st.builds(
            domain.Screen, vnc=(st.sampled_from(['127.0.0.1', '::1', 'dom0'])
                                | (st.none() if spice else st.nothing())),
            spice=st.just(spice), tablet=st.booleans()))
        if architecture.screen(guest_type) else None,
        monitor=draw(st.booleans()),
        serial_log=(log := draw(st.none() | _path) if hvm else None),
        serial_socket=draw(st.none() | _path) if log else None,
        agent_socket=draw(st.none() | _path)
        if architecture.profile(guest_type).agent else None,
        max_event_channels=draw(st.none() | st.integers(1, 2 ** 17)),
        max_grant_frames=draw(st.none() | st.integers(1, 4096)),
        metadata=draw(st.none() | st.builds(
            domain.InstanceMetadata, name=_text, flavor=_text,
            image=st.none() | _text, project=st.none() | _text,
            user=st.none() | _text, machine=st.none() | _json)
            | st.builds(domain.VmMetadata, name=_text)),
        title=draw(st.none() | _text))


def _shape(element: etree._Element) -> list[object]:
    return [element.tag, sorted(element.attrib),
            [_shape(child) for child in element]]


class AnyDomainTest(base.BaseTestCase):
    """Whatever Nova may pass."""

    @_settings
    @hypothesis.given(_specs())
    def test_valid_and_read_back(self, spec):
        architecture = arch.load(spec.arch)
        text = domain.to_xml(spec, architecture)
        schema.assert_valid(text)
        self.assertEqual(spec, domain.from_xml(text, architecture))
        if spec.guest_type is not domain.GuestType.HVM:
            # libvirt runs pygrub for a PV guest without one: XSA-443.
            self.assertIsNotNone(etree.fromstring(text).find('os/kernel'))

    @_settings
    @hypothesis.given(_text, st.sampled_from([
        ('boot', 'kernel'), ('boot', 'ramdisk'), ('boot', 'cmdline'),
        ('disk', 'source'), ('disk', 'target'), ('disk', 'format'),
        ('interface', 'mac'), ('interface', 'bridge'),
        ('interface', 'model'), ('screen', 'vnc'), ('spec', 'name'),
        ('spec', 'uuid'), ('spec', 'arch'), ('spec', 'guest_type'),
        ('spec', 'serial_log')]))
    def test_any_text_is_carried_or_refused(self, text, where):
        part, field = where
        if field in ('kernel', 'ramdisk', 'source', 'serial_log'):
            text = f'/srv/{text}'
        try:
            root = self._write(part, field, text)
        except errors.SpecError as error:
            self.assertIn(field, error.field)
            return
        if (field, text) == ('cmdline', ''):
            self.assertIsNone(root.find('os/cmdline'))
            return
        values = [element.text for element in root.iter()]
        values += [v for element in root.iter()
                   for v in element.attrib.values()]
        if field == 'serial_log':
            # A part of QEMU's option.
            text = f'file,id=xen44-serial,path={text},append=on'
        self.assertIn(text, values)
        self.assertEqual(
            _shape(self._write(part, field, None)), _shape(root))

    @_settings
    @hypothesis.given(_text, _text)
    def test_free_text_is_cleaned(self, title, name):
        root = self._write('spec', 'title', f't{title}',
                           metadata=domain.InstanceMetadata(
                               name=name, flavor=name))
        wanted = self._write('spec', 'title', 'x',
                             metadata=domain.InstanceMetadata(
                                 name='z', flavor='z'))
        self.assertEqual(_shape(wanted), _shape(root))
        self.assertNotIn('\n', root.findtext('title') or '')

    def _write(self, part: str, field: str, text: str | None,
               **more: object) -> etree._Element:
        parts: dict[str, dict[str, object]] = {
            'boot': {'kernel': '/k', 'ramdisk': '/r', 'cmdline': 'quiet'},
            'disk': {'target': 'hda', 'source': '/d', 'format': 'raw'},
            'interface': {'mac': '00:16:3e:00:00:01', 'bridge': 'br0',
                          'model': 'e1000'},
            'screen': {'vnc': '::1'},
            'spec': {'name': 'n', 'arch': 'x86_64', 'guest_type': 'hvm',
                     'uuid': '5d3f1f0a-8a0e-4b39-9df5-6c1b0e2f7a10',
                     'serial_log': '/s', 'title': 't', 'memory_mib': 1,
                     'vcpus': 1},
        }
        if text is not None:
            parts[part][field] = text
        spec = domain.DomainSpec(
            boot=domain.DirectBoot(**parts['boot']),
            disks=(domain.Disk(**parts['disk']),),
            interfaces=(domain.Interface(**parts['interface']),),
            screen=domain.Screen(**parts['screen']), **parts['spec'], **more)
        xml = domain.to_xml(spec, X86_64())
        # As strict as a parser gets: no entities, no recovery.
        return etree.fromstring(
            xml, etree.XMLParser(resolve_entities=False))


class LiveXmlTest(base.BaseTestCase):
    """XML as libvirt answers it: more in it, and other units."""

    def test_comments_are_passed_over(self):
        found = xml_lib.parse(
            '<a><?x y?><!-- b --><b>c<!-- d -->e</b></a>')
        self.assertEqual(['b'], [child.tag for child in found])
        self.assertEqual('ce', found.findtext('b'))

    def test_another_machine(self):
        """Not every guest of libvirt's type is one of the driver's."""
        text = domain.to_xml(specs.PV, X86_64())
        self.assertIn('machine="xenpv"', text)
        error = self.assertRaises(
            errors.SpecError, domain.from_xml,
            text.replace('machine="xenpv"', 'machine="xenner"'), X86_64())
        self.assertEqual('os.type', error.field)

    def test_what_libvirt_adds_is_passed_over(self):
        spec = domain.from_xml('''
            <domain type='xen' id='1'>
              <name>pv1</name>
              <uuid>11111111-1111-4111-8111-111111111111</uuid>
              <memory unit='KiB'>262144</memory>
              <currentMemory unit='KiB'>196608</currentMemory>
              <vcpu placement='static' current='1'>2</vcpu>
              <os>
                <type arch='x86_64' machine='xenpv'>linux</type>
                <kernel>/g/vmlinuz</kernel>
                <initrd>/g/initrd.gz</initrd>
                <cmdline>console=hvc0</cmdline>
              </os>
              <clock offset='utc'/>
              <devices>
                <disk type='file' device='cdrom'>
                  <target dev='xvdd' bus='xen'/><readonly/>
                </disk>
                <disk type='network' device='disk'>
                  <source protocol='rbd' name='a/b'/>
                  <target dev='xvde' bus='xen'/>
                </disk>
                <controller type='xenbus' index='0'/>
                <interface type='bridge'>
                  <mac address='00:16:3e:00:00:01'/>
                  <source bridge='xenbr0'/>
                  <target dev='vif1.0'/>
                </interface>
                <interface type='network'>
                  <mac address='00:16:3e:00:00:02'/>
                  <source network='default'/>
                </interface>
                <console type='pty' tty='/dev/pts/1'>
                  <source path='/dev/pts/1'/><target type='xen' port='0'/>
                </console>
                <input type='mouse' bus='xen'/>
                <input type='keyboard' bus='xen'/>
                <graphics type='vnc' port='5900' autoport='yes'
                          listen='127.0.0.1'>
                  <listen type='address' address='127.0.0.1'/>
                </graphics>
                <video><model type='xen' vram='4096' heads='1'/></video>
                <memballoon model='xen'/>
              </devices>
            </domain>''', X86_64())
        self.assertEqual(domain.DomainSpec(
            uuid='11111111-1111-4111-8111-111111111111', name='pv1',
            arch='x86_64', guest_type=domain.GuestType.PV, memory_mib=256,
            vcpus=2, boot=domain.DirectBoot(
                kernel='/g/vmlinuz', ramdisk='/g/initrd.gz',
                cmdline='console=hvc0'),
            interfaces=(domain.Interface(mac='00:16:3e:00:00:01',
                                         bridge='xenbr0'),),
            screen=domain.Screen(vnc='127.0.0.1')), spec)

    def test_cpus_as_libvirt_answers_them(self):
        text = domain.to_xml(specs.HVM, X86_64()).replace(
            '</vcpu>', '</vcpu><cputune>{}</cputune>')
        first, second = ('<vcpupin vcpu="1" cpuset="7"/>',
                         '<vcpupin vcpu="0" cpuset="0,4-6"/>')
        self.assertEqual(
            (frozenset({0, 4, 5, 6}), frozenset({7})),
            domain.from_xml(text.format(first + second), X86_64()).cpus)
        # Not ours.
        self.assertEqual(
            (), domain.from_xml(text.format(first), X86_64()).cpus)

    def test_hvm_with_hvmloader_named(self):
        text = domain.to_xml(specs.HVM, X86_64()).replace(
            '<boot dev="hd"/>', '<loader type="rom">/usr/lib/xen/boot/'
            'hvmloader</loader><boot dev="hd"/>')
        self.assertEqual(domain.FirmwareBoot(),
                         domain.from_xml(text, X86_64()).boot)

    def test_refused(self):
        good = domain.to_xml(specs.PV, X86_64())
        for field, bad in (
                ('xml', 'no xml'),
                ('xml', '<network/>'),
                ('xml', good.replace('type="xen"', 'type="kvm"', 1)),
                ('xml', good.replace('<vcpu>2</vcpu>', '')),
                ('arch', good.replace('arch="x86_64"', 'arch="i686"')),
                ('os.type', good.replace('>linux<', '>exe<')),
                ('memory.unit', good.replace('unit="MiB"', 'unit="acre"')),
                ('boot', good.replace('kernel>', 'bootloader>')),
                ('xml', '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///dev/null">]>'
                        '<domain>&e;</domain>')):
            with self.subTest(bad[:60]):
                error = self.assertRaises(errors.SpecError,
                                          domain.from_xml, bad, X86_64())
                self.assertEqual(field, error.field)

    def test_entities_are_not_read(self):
        bad = ('<!DOCTYPE domain [<!ENTITY e "read">]>'
               + domain.to_xml(specs.PV, X86_64()).replace(
                   '<memory', '<title>&e;</title><memory'))
        self.assertNotEqual('read', domain.from_xml(bad, X86_64()).title)


class ToXmlTest(base.BaseTestCase):

    def test_another_architecture(self):
        error = self.assertRaises(
            errors.SpecError, domain.to_xml, specs.PV, Aarch64())
        self.assertEqual(('arch', 'aarch64'), (error.field, error.allowed))

    def test_no_screen_on_arm(self):
        spec = domain.DomainSpec(
            uuid='5d3f1f0a-8a0e-4b39-9df5-6c1b0e2f7a10', name='n',
            arch='aarch64', guest_type=domain.GuestType.PVH, memory_mib=1,
            vcpus=1, boot=domain.DirectBoot(kernel='/k', cmdline='c'),
            screen=domain.Screen(vnc='::1'))
        self.assertRaises(errors.SpecError, domain.to_xml, spec, Aarch64())

    def test_a_kernel_without_a_command_line(self):
        # Empty means empty: nothing is put into the guest's command line.
        spec = dataclasses.replace(
            specs.PV, boot=domain.DirectBoot(kernel='/kernel', cmdline=''))
        for other in (spec, dataclasses.replace(spec, metadata=None)):
            text = domain.to_xml(other, X86_64())
            root = etree.fromstring(text)
            self.assertIsNone(root.find('os/cmdline'))
            self.assertIsNone(root.find('os/initrd'))
            self.assertEqual(other, domain.from_xml(text, X86_64()))
        # The same <os> without our mark is grub's.
        unmarked = domain.to_xml(spec, X86_64()).replace(
            '<xen44:boot>direct</xen44:boot>', '')
        self.assertIsInstance(domain.from_xml(unmarked, X86_64()).boot,
                              domain.GrubBoot)

    def test_owners(self):
        """Neither front door takes the other's domains for its own."""
        metadata = domain.VmMetadata(name='i-4-231-VM')
        for boot in (specs.PV.boot,
                     domain.DirectBoot(kernel='/kernel', cmdline='')):
            for other in (specs.PV.metadata, metadata):
                spec = dataclasses.replace(
                    specs.PV, boot=boot, metadata=other)
                text = domain.to_xml(spec, X86_64())
                schema.assert_valid(text)
                self.assertEqual(spec, domain.from_xml(text, X86_64()))
                found = etree.fromstring(text)
                self.assertEqual(
                    [other is specs.PV.metadata, other is metadata],
                    [metadata_lib.ours(found, owner)
                     for owner in domain.Owner])

    def test_record_read_back_exactly(self):
        record = '{"a": "\\u0000", "b": " <x> & ]]> ",\r\n\t"c": 1}\n'
        spec = dataclasses.replace(
            specs.PV, metadata=domain.InstanceMetadata(
                name='n', flavor='f', machine=record))
        text = domain.to_xml(spec, X86_64())
        self.assertEqual(record,
                         domain.from_xml(text, X86_64()).metadata.machine)

    def test_a_file_on_a_loop_device(self):
        spec = dataclasses.replace(specs.PV, disks=(domain.Disk(
            target='xvda', source='/srv/disk.raw', by_kernel=True),))
        disk = etree.fromstring(
            domain.to_xml(spec, X86_64())).find('devices/disk')
        self.assertEqual('file', disk.get('type'))
        self.assertEqual({'name': 'phy', 'type': 'raw'},
                         dict(disk.find('driver').attrib))
        self.assertEqual('/srv/disk.raw', disk.find('source').get('file'))

    def test_a_block_device(self):
        # Without a driver libvirt would serve it through a loop device.
        spec = dataclasses.replace(specs.PV, disks=(domain.Disk(
            target='xvdb', source='/dev/vg0/volume-1', type='block'),))
        disk = etree.fromstring(
            domain.to_xml(spec, X86_64())).find('devices/disk')
        self.assertEqual('block', disk.get('type'))
        self.assertEqual({'name': 'phy', 'type': 'raw'},
                         dict(disk.find('driver').attrib))
        self.assertEqual('/dev/vg0/volume-1', disk.find('source').get('dev'))
