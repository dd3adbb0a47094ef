# SPDX-License-Identifier: Apache-2.0
"""What image properties and extra specs mean: the table, and its manual."""

import fnmatch
import importlib.util
import pathlib
import re

from nova import exception
from nova import objects
from nova.api.validation.extra_specs import validators

from tests.unit import base
from xen44_driver.compute import properties
from xen44_driver.xen import arch as arch_lib
from xen44_driver.xen.guesttype import GuestType

ROOT = pathlib.Path(__file__).parents[3]


PROFILES = arch_lib.load('x86_64').profiles


class PropertiesCase(base.TestCase):

    def check(self, kind='hvm', *, arch='x86_64', image=None, flavor=None):
        """Check properties of an image and extra specs of a flavor."""
        guest_type = GuestType(kind)
        properties.check(
            objects.ImageMeta.from_dict({'properties': image or {}}),
            objects.Flavor(extra_specs=flavor or {}),
            guest_type=guest_type, arch=arch, profile=PROFILES[guest_type])

    def refuse(self, *says, **asked):
        """See that something is refused, and how."""
        raised = self.assertRaises(
            exception.InvalidInput, self.check, **asked)
        for text in says:
            self.assertIn(text, str(raised))


class TableTest(PropertiesCase):
    """The table knows all of Nova's, and says one thing of each."""

    def test_every_image_property(self):
        unknown = set(objects.ImageMetaProps.fields) - {
            entry.image for entry in properties.table()}
        self.assertEqual(
            set(), unknown, 'Nova has image properties of which '
            'compute/properties.py says nothing')

    def test_every_extra_spec(self):
        unknown = {name for name in validators.VALIDATORS
                   if properties.of_flavor(name) is None}
        self.assertEqual(
            set(), unknown, 'Nova has extra specs of which '
            'compute/properties.py says nothing')

    def test_each_name_once(self):
        for names in (
            [entry.image for entry in properties.table() if entry.image],
            [entry.flavor for entry in properties.table() if entry.flavor],
        ):
            self.assertEqual(sorted(set(names)), sorted(names))

    def test_no_pattern_hides_a_name(self):
        # Or a quota that is refused could become one that is harmless.
        for name in validators.VALIDATORS:
            matching = [entry.flavor for entry in properties.table()
                        if entry.flavor
                        and fnmatch.fnmatchcase(name, entry.flavor)]
            self.assertEqual(1, len(matching), f'{name}: {matching}')

    def test_rows_are_what_their_verdict_says(self):
        for entry in properties.table():
            with self.subTest(entry=entry):
                self.assertTrue(entry.image or entry.flavor)
                self.assertTrue(entry.reason)
                if entry.verdict is properties.Verdict.HARMLESS:
                    self.assertEqual(properties.Anything(), entry.allowed)
                if entry.verdict is properties.Verdict.REFUSED:
                    self.assertNotEqual(
                        properties.Anything(), entry.allowed)

    def test_errors_fit_in_a_fault(self):
        # Nova keeps 255 characters.
        for entry in properties.table():
            if entry.verdict is not properties.Verdict.REFUSED:
                continue
            name = (entry.image or entry.flavor).replace('*', 'outbound')
            asked = {'image': {'hw_numa_nodes': 1}} if entry.image else {
                'flavor': {name: 'something'}}
            raised = self.assertRaises(
                exception.InvalidInput, self.check, **asked)
            fault = exception.BuildAbortException(
                instance_uuid=base.PORT, reason=str(raised))
            self.assertLess(
                len(str(fault).replace('hw_numa_nodes', name).replace(
                    'guests have no NUMA nodes', entry.reason)), 255, entry)

    def test_image_property_and_extra_spec_ask_the_same(self):
        for entry in properties.table():
            if entry.image and entry.flavor:
                suffix = re.sub(r'^(hw|img|os)_', '', entry.image)
                self.assertIn(suffix, entry.flavor)


class OutboundTest(PropertiesCase):
    """A limit of what guests send."""

    def limit(self, value):
        return properties.outbound_limit(objects.Flavor(
            extra_specs={'quota:vif_outbound_average': value}))

    def test_values(self):
        self.assertIsNone(properties.outbound_limit(objects.Flavor()))
        self.assertIsNone(self.limit('0'))
        self.assertEqual(1, self.limit('1'))
        self.assertEqual(2 ** 30, self.limit(str(2 ** 30)))
        for value in ('', '-1', '1.5', 'x' * 100, '²', str(2 ** 30 + 1)):
            raised = self.assertRaises(
                exception.InvalidInput, self.limit, value)
            self.assertIn('0 (no limit) to 1073741824', str(raised))
            self.assertIn(value[:40], str(raised))

    def outbound(self, kind, model, value='10'):
        guest_type = GuestType(kind)
        properties.check_outbound_limit(
            objects.Flavor(extra_specs={'quota:vif_outbound_average': value}),
            guest_type, profile=PROFILES[guest_type], vif_model=model)

    def test_emulated_cards_have_no_limit(self):
        for kind, model in (('pv', None), ('pvh', 'netfront'),
                            ('hvm', 'netfront')):
            self.outbound(kind, model)
        self.outbound('hvm', None, '0')
        for model in (None, 'e1000', 'rtl8139'):
            raised = self.assertRaises(
                exception.InvalidInput, self.outbound, 'hvm', model)
            fault = exception.BuildAbortException(
                instance_uuid=base.PORT, reason=str(raised))
            self.assertLess(len(str(fault)), 255)
            self.assertIn('hvm guest; allowed: images with '
                          'hw_vif_model=netfront', str(raised))


class CheckTest(PropertiesCase):
    """What is refused, and what is not."""

    def test_nothing_asked(self):
        for kind in GuestType:
            self.check(kind)

    def test_flavor_without_extra_specs(self):
        properties.check(
            objects.ImageMeta.from_dict({}), objects.Flavor(),
            guest_type=GuestType.PV, arch='x86_64',
            profile=PROFILES[GuestType.PV])

    def test_image_and_flavor_are_refused_alike(self):
        for name, value in (
            ('mem_page_size', 'large'), ('mem_page_size', '2048'),
            ('numa_nodes', '1'), ('tpm_model', 'tpm-crb'),
            ('tpm_version', '2.0'), ('watchdog_action', 'reset'),
            ('pmu', 'true'), ('mem_encryption', 'true'),
            ('boot_menu', 'true'), ('sound_model', 'ich6'),
            ('viommu_model', 'auto'), ('cpu_sockets', '1'),
            ('cpu_max_threads', '1'), ('serial_port_count', '2'),
            ('redirected_usb_ports', '1'), ('ephemeral_encryption', 'yes'),
        ):
            if f'hw_{name}' not in objects.ImageMetaProps.fields:
                continue  # this Nova is older
            with self.subTest(name=name, value=value):
                self.refuse(f'the image asks for hw_{name} ',
                            image={f'hw_{name}': value})
                self.refuse(f"the flavor asks for hw:{name} '{value}'",
                            flavor={f'hw:{name}': value})

    def test_refused_of_an_image(self):
        for name, value in (
            ('os_secure_boot', 'required'), ('hw_machine_type', 'q35'),
            ('hw_video_model', 'virtio'),
            ('hw_vif_model', 'virtio'), ('hw_disk_bus', 'virtio'),
            ('hw_scsi_model', 'virtio-scsi'), ('hw_cdrom_bus', 'sata'),
            ('hw_architecture', 'ppc64'), ('img_hv_type', 'kvm'),
            ('img_hide_hypervisor_id', 'true'), ('hw_input_bus', 'virtio'),
            ('hw_ipxe_boot', 'true'), ('hw_video_ram', '64'),
            ('hw_numa_cpus.0', '0'), ('hw_device_id', '2'),
            ('hw_ephemeral_encryption_secret_uuid', base.PORT),
            ('hw_time_hpet', 'false'), ('xenapi_use_agent', 'true'),
        ):
            with self.subTest(name=name, value=value):
                self.refuse('the image asks for ', image={name: value})

    def test_refused_of_a_flavor(self):
        for name, value in (
            ('hw:cpu_realtime', 'yes'),
            ('hw:emulator_threads_policy', 'isolate'),
            ('hw:numa_cpus.0', '0'), ('hw:numa_mem.0', '64'),
            ('hw:pmem', '6GB'), ('hw:pci_numa_affinity_policy', 'required'),
            ('hw:hide_hypervisor_id', 'true'),
            ('hide_hypervisor_id', '1'), ('os:secure_boot', 'required'),
            ('accel:device_profile', 'gpu'),
            ('quota:memory_limit', '64'),
            ('quota:disk_io_limit', '100'),
            ('quota:vif_inbound_average', '100'),
            ('quota:vif_outbound_burst', '100'),
            ('quota:vif_outbound_peak', '100'),
            ('quota:cpu_shares_level', 'high'),
        ):
            with self.subTest(name=name):
                self.refuse(f'the flavor asks for {name} {value!r}',
                            flavor={name: value})

    def test_harmless_of_an_image(self):
        for name, value in (
            ('hw_cpu_policy', 'dedicated'), ('hw_mem_page_size', 'any'),
            ('os_secure_boot', 'optional'), ('os_secure_boot', 'disabled'),
            ('hw_watchdog_action', 'disabled'), ('hw_pmu', 'false'),
            ('hw_rng_model', 'virtio'), ('os_require_quiesce', 'no'),
            ('hw_qemu_guest_agent', 'no'), ('hw_locked_memory', 'true'),
            ('hw_vif_multiqueue_enabled', 'true'),
            ('hw_serial_port_count', '1'), ('os_distro', 'debian'),
            ('os_require_quiesce', 'yes'), ('hw_qemu_guest_agent', 'yes'),
            ('os_admin_user', 'root'), ('root_device_name', '/dev/vda'),
            ('trait:CUSTOM_GOLD', 'required'), ('os_type', 'Linux'),
            ('img_config_drive', 'mandatory'), ('os_command_line', ''),
            ('vmware_disktype', 'sparse'), ('xenapi_use_agent', 'no'),
            ('hw_scsi_model', 'lsilogic'), ('hw_machine_type', 'pc'),
            ('hw_time_hpet', 'true'), ('hw_disk_bus', 'scsi'),
            ('hw_pointer_model', 'usbtablet'), ('hw_video_model', 'vga'),
        ):
            with self.subTest(name=name, value=value):
                self.check(image={name: value})

    def test_harmless_of_a_flavor(self):
        for name, value in (
            ('hw:cpu_policy', 'mixed'), ('hw:cpu_realtime', 'no'),
            ('hw:cpu_dedicated_mask', '^0'),
            ('hw:cpu_thread_policy', 'isolate'),
            ('hw:boot_menu', 'False'), ('os:secure_boot', 'disabled'),
            ('quota:cpu_quota', '-1'), ('quota:memory_limit', '0'),
            ('quota:disk_read_bytes_sec', '0'), ('hw_rng:allowed', 'true'),
            ('quota:disk_total_iops_sec', '100'),
            ('quota:vif_inbound_peak', '0'),
            ('quota:vif_outbound_average', '2048'),
            ('quota:vif_shares_share', '10'), ('vmware:hw_version', '13'),
            ('xen44:guest_type', 'pvh'), ('capabilities:vcpus', '>= 2'),
            ('trait:CUSTOM_XEN44_GUEST_PVH', 'required'),
            ('trait1:HW_CPU_X86_AVX2', 'forbidden'),
            ('resources:VCPU', '2'), ('resources_A:CUSTOM_GOLD', '1'),
            ('group_policy', 'none'), ('our_own', 'note'),
            ('aggregate_instance_extra_specs:hw:ssd', 'true'),
            ('billing:cpu_policy', 'gold'),
        ):
            with self.subTest(name=name):
                self.check(flavor={name: value})

    def test_what_guest_types_differ_in(self):
        for kind, name, value, allowed in (
            ('hvm', 'os_type', 'windows', True),
            ('pv', 'os_type', 'windows', False),
            ('pvh', 'os_type', 'windows', False),
            ('hvm', 'hw_architecture', 'i686', True),
            ('pv', 'hw_architecture', 'i686', False),
            ('pvh', 'hw_architecture', 'i686', False),
            ('pvh', 'hw_architecture', 'x86_64', True),
            ('pv', 'hw_vif_model', 'e1000', False),
            ('pvh', 'hw_disk_bus', 'ide', False),
            ('pv', 'hw_pointer_model', 'usbtablet', False),
            ('pv', 'hw_video_model', 'vga', False),
            ('pv', 'hw_video_model', 'none', True),
            ('hvm', 'hw_video_model', 'none', False),
            ('pv', 'hw_time_hpet', 'true', False),
            ('pv', 'hw_time_hpet', 'false', True),
            ('pvh', 'hw_machine_type', 'pc', False),
            ('pv', 'hw_cdrom_bus', 'ide', False),
        ):
            with self.subTest(kind=kind, name=name, value=value):
                if allowed:
                    self.check(kind, image={name: value})
                else:
                    self.refuse(f"{name} '{value}'", f'a {kind} guest',
                                kind=kind, image={name: value})

    def test_what_architectures_differ_in(self):
        for arch, name, value, allowed in (
            ('aarch64', 'hw_architecture', 'aarch64', True),
            ('aarch64', 'hw_architecture', 'armv7l', True),
            ('x86_64', 'hw_architecture', 'armv7l', False),
            ('aarch64', 'hw_architecture', 'x86_64', False),
            ('x86_64', 'hw_architecture', 'aarch64', False),
            ('aarch64', 'hw_firmware_type', 'uefi', True),
            ('aarch64', 'hw_firmware_type', 'bios', False),
            ('riscv64', 'hw_firmware_type', 'bios', False),
        ):
            with self.subTest(arch=arch, name=name, value=value):
                if allowed:
                    self.check('pvh', arch=arch, image={name: value})
                else:
                    self.refuse(name, value, kind='pvh', arch=arch,
                                image={name: value})

    def test_says_what_is_allowed_and_why(self):
        self.refuse("the flavor asks for hw:emulator_threads_policy 'isolate'",
                    'allowed for a hvm guest: share', "dom0's CPUs",
                    flavor={'hw:emulator_threads_policy': 'isolate'})
        self.refuse('allowed for a hvm guest: nothing', 'no TPM',
                    image={'hw_tpm_model': 'tpm-tis'})

    def test_values_of_profile_in_its_order(self):
        self.refuse("hw_vif_model 'virtio'; allowed for a hvm guest: "
                    'netfront, e1000, rtl8139',
                    image={'hw_vif_model': 'virtio'})

    def test_names_all_that_is_refused(self):
        self.refuse('the image asks for hw_tpm_model', 'hw_tpm_version',
                    'refused too: ', 'hw:pmu',
                    image={'hw_tpm_model': 'tpm-tis',
                           'hw_tpm_version': '2.0'},
                    flavor={'hw:pmu': 'true'})

    def test_long_value_is_cut(self):
        self.refuse("'" + 'x' * 40 + "...'", 'one machine for each',
                    image={'hw_machine_type': 'x' * 200})

    def test_value_that_is_no_truth(self):
        self.refuse("hw:pmu 'perhaps'", 'allowed for a hvm guest: false',
                    flavor={'hw:pmu': 'perhaps'})

    def test_unknown_extra_spec(self):
        for name in ('hw:cpu_polcy', 'xen44:guest', 'quota:of_tomorrow',
                     'os:resolution', 'accel:gpu'):
            with self.subTest(name=name):
                self.refuse(name, 'does not know', flavor={name: 'x'})

    def test_unknown_image_property(self):
        for name, asked in (('hw_of_tomorrow', True),
                            ('os_of_tomorrow', False)):
            image = objects.ImageMeta.from_dict({})
            image.properties.fields = {
                **image.properties.fields,
                name: objects.fields.StringField()}
            setattr(image.properties, f'_obj_{name}', 'x')
            image.properties.get = {name: 'x'}.get
            args = (image, objects.Flavor(extra_specs={}))
            guest = {'guest_type': GuestType.PV, 'arch': 'x86_64',
                     'profile': PROFILES[GuestType.PV]}
            if not asked:
                properties.check(*args, **guest)
                continue
            raised = self.assertRaises(
                exception.InvalidInput, properties.check, *args, **guest)
            self.assertIn(name, str(raised))


class MemoryTest(base.TestCase):
    """A guest needs memory to boot at all."""

    def flavor(self, memory):
        return objects.Flavor(memory_mb=memory)

    def test_least(self):
        for (kind, direct), least in properties.MIN_MEMORY_MIB.items():
            with self.subTest(kind=kind, direct=direct):
                properties.check_memory(
                    self.flavor(least), kind, direct_kernel=direct)
                raised = self.assertRaises(
                    exception.InvalidInput, properties.check_memory,
                    self.flavor(least - 1), kind, direct_kernel=direct)
                self.assertIn(f'{least - 1} MiB', str(raised))
                self.assertIn(f'at least {least} MiB', str(raised))

    def test_every_guest_type(self):
        for kind in GuestType:
            for direct in (False, True):
                for memory in (1, 16):
                    self.assertRaises(
                        exception.InvalidInput, properties.check_memory,
                        self.flavor(memory), kind, direct_kernel=direct)
                properties.check_memory(
                    self.flavor(128), kind, direct_kernel=direct)


class ManualTest(base.TestCase):
    """The manual has the table."""

    def test_up_to_date(self):
        script = ROOT / 'doc' / 'properties.py'
        spec = importlib.util.spec_from_file_location('manual', script)
        manual = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(manual)
        self.assertEqual(
            manual.tables(), manual.PAGE.read_text(),
            'run: python doc/properties.py')
