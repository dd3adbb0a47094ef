# SPDX-License-Identifier: Apache-2.0
"""Guests of an ARM host: a whole life, and what such a host refuses.

These run in a lab with an ARM host (``XENLAB_ARCH=aarch64``), and only there.
"""

from __future__ import annotations

from typing import Any
from typing import ClassVar

from labkit import guest as guest_images
from labkit import images
from tests.gate import base
from tests.gate import guest as guest_lib
from tests.gate import test_guests
from tests.gate import test_host
from tests.gate import test_operator_commands
from tests.gate import test_privileges
from tests.gate.rows import consoles
from tests.gate.rows import interfaces
from tests.gate.rows import rebuild
from tests.gate.rows import rescue
from tests.gate.rows import resize
from tests.gate.rows import snapshot
from tests.gate.rows import suspend


class ARM(test_guests.Inside, test_guests.StopStart, test_guests.SoftReboot,
          test_guests.HardReboot, test_guests.Pause,
          test_guests.RebootsItself, test_guests.TurnsItselfOff,
          test_guests.Outside, test_guests.NoScreen, suspend.Diagnostics,
          suspend.CrashDump, snapshot.ColdSnapshot, interfaces.Interfaces,
          consoles.SerialConsole, rescue.Rescue, rebuild.Rebuild,
          resize.Resize, test_guests.GuestCase):
    """The one kind of guest that there is, with a kernel from Glance."""

    guest_type = 'pvh'
    image_name = images.DIRECT_RAW
    config_drive = True
    has_qemu: ClassVar[bool] = False
    # On ARM it has words for PV and for all others.
    linux_type: ClassVar[str] = 'HVM'

    @base.slow
    def test_outside_saved(self) -> None:
        """What a failed save leaves does not keep it from starting."""
        guest = self.running()
        before = guest.boot_id()
        saved = self.host.ssh(['virsh', 'managedsave', guest.domain],
                              check=False, timeout=test_guests.SAVE_TIMEOUT)
        self.assertNotEqual(0, saved.returncode, saved.stdout)
        file = f'{suspend.SAVED}/{guest.domain}.save'
        self.dom0('test', '-e', file)
        self.cloud.compute.reboot_server(guest.id, 'HARD')
        guest.wait_for_status('ACTIVE')
        guest.wait_for_reboot(before)
        self.dom0('test', '!', '-e', file)

    def test_suspend_is_refused(self) -> None:
        guest = self.running()
        before = guest.boot_id()
        self.cloud.compute.suspend_server(guest.id)
        self.assert_action_fails(guest, 'suspend')
        guest.wait_for_status('ACTIVE')
        self.assertEqual(before, guest.boot_id())
        self.assertIn(
            'cannot save the memory of pvh guests on aarch64', self.dom0(
                'grep', '-h', guest.id, '/var/log/nova/nova-compute.log'))


class Arm32(base.GateCase):
    """A guest with a 32-bit kernel, on CPUs that run these."""

    @base.slow
    def test_life(self) -> None:
        files = guest_images.small_guest('armv7l')
        kernel = self.make_image(self.addCleanup, files.kernel, 'aki',
                                 container_format='aki')
        ramdisk = self.make_image(self.addCleanup, files.ramdisk, 'ari',
                                  container_format='ari')
        image = self.make_image(
            self.addCleanup, files.disk_qcow2, 'qcow2',
            hw_architecture='armv7l', kernel_id=kernel.id,
            ramdisk_id=ramdisk.id, os_command_line=guest_images.CMDLINE)
        guest = self.make_server(
            self.addCleanup, image=image,
            flavor=self.make_flavor(self.addCleanup))
        guest.wait_for_status('ACTIVE')
        guest.wait_for_ssh()
        self.assertEqual('armv7l', guest.ssh('uname -m'))
        before = guest.boot_id()
        self.cloud.compute.reboot_server(guest.id, 'SOFT')
        guest.wait_for_status('ACTIVE')
        guest.wait_for_reboot(before)
        traces = self.traces(guest)
        self.remove_server(guest.id)
        traces.wait_for_none(self.host, self.cloud)


class ArmHost(test_host.Host):
    """The host, as a hypervisor of Nova's."""

    in_use_is_known = False

    def test_traits_of_cpu(self) -> None:
        traits = self.traits()
        self.assertIn('HW_ARCH_AARCH64', traits)
        self.assertEqual([], [trait for trait in traits
                              if trait.startswith('HW_CPU_')])


class ArmCommands(test_operator_commands.OperatorCommands):
    """The operators' commands there; the lab has no firmware for guests."""

    guest_type = 'pvh'
    image_name = images.DIRECT_RAW
    event_channels_are_known = False
    passed = tuple(
        name for name in test_operator_commands.OperatorCommands.passed
        if name != 'loaders')


class ArmPrivileges(test_privileges.Privileges):
    """nova-compute runs as it does on x86."""


class ArmRefusals(base.GateCase):
    """What an ARM host cannot do, asked of it."""

    def setUp(self) -> None:
        super().setUp()
        self.files = guest_images.small_guest('aarch64')

    def server(self, *, flavor: dict[str, Any] | None = None,
               **properties: Any) -> guest_lib.Guest:
        """Ask for a server.

        :param flavor: arguments of ``make_flavor``.
        :param properties: of its image, beside those of the guest's kernel.
        """
        image = self.make_image(
            self.addCleanup, self.files.disk_qcow2, 'qcow2', **{
                'kernel_id': self.image(images.KERNEL).id,
                'ramdisk_id': self.image(images.RAMDISK).id, **properties})
        return self.make_server(
            self.addCleanup, image=image,
            flavor=self.make_flavor(self.addCleanup, **(flavor or {})))

    def assert_nowhere(self, guest: guest_lib.Guest) -> None:
        """Nova's scheduler knows that no host has it."""
        self.assert_fault(guest, 'no valid host')

    # Never sent to the host

    def test_other_vm_mode(self) -> None:
        self.assert_nowhere(self.server(hw_vm_mode='hvm'))

    @base.slow
    def test_other_architecture(self) -> None:
        self.assert_nowhere(self.server(hw_architecture='x86_64'))

    @base.slow
    def test_trait_of_other_guest_type(self) -> None:
        self.assert_nowhere(self.server(flavor={
            'specs': {'trait:CUSTOM_XEN44_GUEST_HVM': 'required'}}))

    # Refused by the host

    def test_flavor_with_other_guest_type(self) -> None:
        for kind in ('hvm', 'pv'):
            guest = self.server(flavor={'guest_type': kind})
            self.assert_refused(guest, f'guest type {kind}',
                                'it can run: pvh')

    def test_disk_class_of_qemu(self) -> None:
        guest = self.server(flavor={'specs': {'xen44:disk_class': 'qemu'}})
        self.assert_refused(guest, "xen44:disk_class 'qemu'", 'kernel')

    @base.slow
    def test_screen(self) -> None:
        self.assert_refused(self.server(hw_video_model='vga'),
                            "hw_video_model 'vga'", 'none')

    @base.slow
    def test_guest_agent(self) -> None:
        self.assert_refused(self.server(hw_qemu_guest_agent='yes'),
                            'hw_qemu_guest_agent')

    def test_without_a_kernel(self) -> None:
        image = self.make_image(
            self.addCleanup, self.files.disk_qcow2, 'qcow2',
            hw_firmware_type='uefi')
        guest = self.make_server(self.addCleanup, image=image)
        self.assert_refused(guest, '[xen44_aarch64] pvh_loader', 'kernel_id')

    @base.slow
    def test_uefi_with_a_kernel(self) -> None:
        self.assert_refused(self.server(hw_firmware_type='uefi'),
                            'hw_firmware_type uefi', 'kernel_id')
