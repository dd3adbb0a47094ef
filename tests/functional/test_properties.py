# SPDX-License-Identifier: Apache-2.0
"""Image properties and flavors that cannot be honoured, through real Nova."""

from nova.api.validation.extra_specs import validators
from nova.tests.functional.api import client

from tests.functional import base
from tests.functional import test_servers


class PropertiesTest(test_servers.ServersBase):
    """A server that asks for what it cannot have."""

    def refuse(self, *says, flavor=None, **properties):
        """Boot a server that is refused on the first host.

        :param says: what its fault has to say
        """
        image = base.create_image(
            self.glance, base.raw_image(), **properties)
        server = self.boot(image=image, expected='ERROR', flavor=flavor)
        fault = server['fault']['message']
        for text in says:
            self.assertIn(text, fault)
        self.assertIn('aborted', fault)
        self.assertNotIn('Exceeded maximum number of retries', fault)
        self.below.assert_nothing_left()

    def asking(self, memory=256, **extra_specs):
        """Make a flavor with extra specs."""
        return self._create_flavor(
            memory_mb=memory, vcpu=1, disk=1, ephemeral=0, swap=0,
            extra_spec=extra_specs)

    def test_image_property(self):
        self.refuse("the image asks for hw_machine_type 'q35'", 'xenfv, pc',
                    hw_machine_type='q35')
        self.refuse("the image asks for hw_watchdog_action 'reset'",
                    'guests have no watchdog', hw_watchdog_action='reset')

    def test_uefi(self):
        """The scheduler asks for it where Nova knows how to."""
        traits = {'COMPUTE_FIRMWARE_UEFI',
                  'COMPUTE_SECURITY_STATELESS_FIRMWARE'}
        self._run_periodics()
        self.assertEqual(traits, traits & {*self.traits()})
        image = base.create_image(
            self.glance, base.raw_image(), hw_firmware_type='uefi',
            hw_firmware_stateless='true')
        server = self.boot(image=image)
        self.assertIn("type=\"pflash\"", self.domain(server).XMLDesc())

    def test_extra_spec(self):
        for name, value, why in (
            ('hw:mem_page_size', 'large', 'Xen itself chooses the pages'),
            ('hw:numa_nodes', '1', 'guests have no NUMA nodes'),
            ('quota:memory_limit', '100', 'not enforced'),
            ('hw:watchdog_action', 'reset', 'guests have no watchdog'),
        ):
            with self.subTest(name=name):
                self.refuse(f"the flavor asks for {name} '{value}'", why,
                            flavor=self.asking(**{name: value}))

    def test_extra_specs_that_the_api_refuses(self):
        self.assertIn(
            'xen44', validators.NAMESPACES, 'what is installed has not the '
            'entry points of this setup.cfg: python setup.py egg_info')
        flavor = self.asking()
        for name, value, why in (
            ('xen44:guest_typ', 'pvh', 'does not appear to be a valid'),
            ('xen44:guest_type', 'kvm', 'not one of: pv, pvh, hvm'),
            ('xen44:disk_class', 'tapdisk', 'not one of: qemu, kernel'),
            ('xen44:max_event_channels', '1000', 'less than the min'),
            ('xen44:max_event_channels', '131072', 'greater than the max'),
            ('xen44:max_grant_frames', 'many', 'not a valid integer'),
        ):
            with self.subTest(name=name, value=value):
                raised = self.assertRaises(
                    client.OpenStackApiException,
                    self.admin_api.post_extra_spec, flavor,
                    {'extra_specs': {name: value}})
                self.assertEqual(400, raised.response.status_code)
                self.assertIn(why, str(raised))
        self.assertEqual({}, self.admin_api.get_extra_specs(flavor))

    def test_size_of_xens_tables(self):
        with self.unchecked():
            flavor = self.asking(**{'xen44:max_event_channels': '1000'})
        self.refuse("xen44:max_event_channels '1000'", '1023 to 131071',
                    flavor=flavor)
        server = self.boot(flavor=self.asking(
            **{'xen44:max_event_channels': '2500',
               'xen44:max_grant_frames': '128'}))
        self.assertIn('maxGrantFrames="128" maxEventChannels="2500"',
                      self.domain(server).xml)

    def test_windows_needs_hvm(self):
        self.refuse("the image asks for os_type 'windows'",
                    'a pvh guest: linux', os_type='windows',
                    flavor=self.flavor(xen44_guest_type='pvh'))

    def test_too_little_memory(self):
        for memory in (1, 16):
            self.refuse(f'the flavor has {memory} MiB of memory',
                        'needs at least 64 MiB',
                        flavor=self.asking(memory))

    def test_harmless(self):
        image = base.create_image(
            self.glance, base.raw_image(), hw_rng_model='virtio',
            hw_cpu_policy='shared', os_distro='debian', os_type='linux')
        self.boot(image=image, flavor=self.asking(
            **{'hw:watchdog_action': 'disabled', 'our:note': 'gold'}))
