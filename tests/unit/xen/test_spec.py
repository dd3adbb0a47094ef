# SPDX-License-Identifier: Apache-2.0
import dataclasses

from oslotest import base

from tests.unit.xen import specs
from xen44_driver.xen import domain
from xen44_driver.xen import errors

PV, PVH, HVM = specs.PV, specs.PVH, specs.HVM
DISK, NIC = PV.disks[0], PV.interfaces[0]


class SpecTest(base.BaseTestCase):
    """What cannot be is refused, by the name of its field."""

    def refused(self, field, whole, **values):
        with self.subTest(field=field, values=values):
            error = self.assertRaises(errors.SpecError, dataclasses.replace,
                                      whole, **values)
            self.assertEqual(field, error.field)
            self.assertIn(field, str(error))
            self.assertTrue(error.allowed)

    def test_domain(self):
        for uuid in ('', 'x', PV.uuid.upper(), PV.uuid.replace('-', '')):
            self.refused('uuid', PV, uuid=uuid)
        for name in ('', '../x', 'a b', '-x', 'a\n', 'x' * 129, 'ü'):
            self.refused('name', PV, name=name)
        self.refused('guest_type', PV, guest_type='lxc')
        self.refused('memory_mib', PV, memory_mib=0)
        self.refused('vcpus', PV, vcpus=0)
        one = frozenset({1})
        self.refused('cpus', PV, cpus=(one, frozenset()))
        self.refused('cpus', PV, cpus=(one, frozenset({-1})))
        self.refused('cpus', PV, cpus=(one,))
        self.refused('cpus', PV, cpus=(one, one, one))
        self.refused('max_event_channels', PV, max_event_channels=2 ** 17 + 1)
        self.refused('max_grant_frames', PV, max_grant_frames=0)

    def test_boot(self):
        self.refused('boot', PV, boot=domain.FirmwareBoot())
        self.refused('boot', HVM, boot=PV.boot, disks=(), serial_log=None)
        direct = PVH.boot
        self.refused('boot.kernel', direct, kernel='vmlinuz')
        self.refused('boot.kernel', direct, kernel='/a/../b')
        self.refused('boot.kernel', direct, kernel='/a ')
        self.refused('boot.ramdisk', direct, ramdisk='')
        for cmdline in (' ', 'a\nb', 'a\x00'):
            self.refused('boot.cmdline', direct, cmdline=cmdline)
        self.refused('boot.loader', PV.boot, loader='grub')
        for devices in ((), ('hd', 'hd'), ('fd',)):
            self.refused('boot.devices', HVM.boot, devices=devices)

    def test_clock(self):
        self.refused('clock', PV, clock='Europe/Berlin')

    def test_record(self):
        for record in ('', ' ', '{"a": "\x00"}', '{"a": "\ud800"}'):
            self.refused('metadata.machine', PV.metadata, machine=record)

    def test_disks(self):
        for target in ('sde', 'vda', 'xvd', 'xvda1', 'hde', 'XVDA'):
            self.refused('disk.target', DISK, target=target)
        self.refused('disk.source', DISK, source='/a,readonly=on')
        self.refused('disk.source', DISK, source='relative')
        self.refused('disk.format', DISK, format='vmdk')
        self.refused('disk.format', DISK, type='block')
        self.refused('disk.format', DISK, by_kernel=True)
        self.refused('disk.type', DISK, type='volume')
        self.refused('disk.device', DISK, device='floppy')
        self.assertTrue(dataclasses.replace(DISK, device='cdrom').readonly)

    def test_disks_of_a_domain(self):
        ide = dataclasses.replace(DISK, target='hda')
        scsi = dataclasses.replace(DISK, target='sda')
        for emulated in (ide, scsi):
            self.refused('disks[0].target', PV, disks=(emulated,))
            self.refused('disks[1].target', HVM, disks=(emulated, DISK))
        self.assertEqual(('xen', 'ide', 'scsi'),
                         (DISK.bus, ide.bus, scsi.bus))
        for target in ('hdb', 'xvdb'):
            self.refused('disks[0].target', HVM, disks=(dataclasses.replace(
                ide, target=target, readonly=True),))
        self.refused('disks[0].target', HVM, disks=(dataclasses.replace(
            DISK, target='xvde', device='cdrom'),))
        # A read-only disk that QEMU does not emulate as IDE is fine.
        for target in ('xvdaa', 'sdb'):
            dataclasses.replace(HVM, disks=(dataclasses.replace(
                DISK, target=target, readonly=True),))

    def test_interfaces(self):
        for mac in ('', '00:16:3E:00:00:01', '01:16:3e:00:00:01', '00:16'):
            self.refused('interface.mac', NIC, mac=mac)
        for bridge in ('', 'br 0', 'a/b', 'x' * 16):
            self.refused('interface.bridge', NIC, bridge=bridge)
        self.refused('interface.model', NIC, model='')
        self.refused('interface.mtu', NIC, mtu=67)
        for limit in (0, 2 ** 30 + 1):
            self.refused('interface.outbound_kib', NIC, outbound_kib=limit)
        self.refused('interface.vlan', NIC, vlan=5)
        for vlan in (0, 4095):
            self.refused('interface.vlan', NIC, vlan=vlan, ovs=True)

    def test_interfaces_of_a_domain(self):
        emulated = dataclasses.replace(NIC, model='e1000')
        for guest_type in (PV, PVH):
            self.refused('interfaces[1].model', guest_type,
                         interfaces=(NIC, emulated))
        dataclasses.replace(HVM, interfaces=(NIC, emulated))

    def test_screen_and_serial(self):
        screen = HVM.screen
        for listen in ('', '/x', 'a b', '-h'):
            self.refused('screen.vnc', screen, vnc=listen)
        self.refused('screen', screen, vnc=None)
        self.refused('screen.tablet', PV, screen=screen)
        spice = domain.Spice(socket='/s', options=('image-compression=off',))
        self.refused('screen.spice', PV, screen=domain.Screen(spice=spice))
        for path in ('s', '/s,port=5900', '/a/../s'):
            self.refused('spice.socket', spice, socket=path)
        for option in ('sasl', 'a=b,port=5900', 'A=b', 'a='):
            self.refused('spice.options', spice, options=(option,))
        self.refused('serial_log', PV, serial_log='/log')
        self.refused('serial_log', HVM, serial_log='/log,append=on')

    def test_free_text_is_cleaned(self):
        self.assertEqual(
            'ab c', dataclasses.replace(PV, title=' a\x00b\nc ').title)
        self.assertEqual('a\nbc', dataclasses.replace(
            PV.metadata, name='a\r\nb\ud800c').name)
        self.assertIsNone(dataclasses.replace(PV, title='\n').title)
