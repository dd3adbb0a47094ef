# SPDX-License-Identifier: Apache-2.0
"""Every option is documented, and the sample in etc/ is current."""

import io
import pathlib

from oslo_config import cfg
from oslo_config import generator

from tests.unit import base
from xen44_driver import conf

PROJECT = pathlib.Path(__file__).parents[3]


class OptionsTest(base.TestCase):

    def test_every_option_has_help(self):
        for group, options in conf.list_opts():
            self.assertTrue(group.help)
            for option in options:
                self.assertTrue(option.help, option.name)

    def test_sample_is_current(self):
        settings = cfg.ConfigOpts()
        generator.register_cli_opts(settings)
        settings(['--config-file',
                  str(PROJECT / 'etc/xen44/config-generator.conf')],
                 default_config_files=[])
        out = io.StringIO()
        generator.generate(settings, output_file=out)
        sample = PROJECT / 'etc/xen44/xen44.conf.sample'
        self.assertEqual(
            sample.read_text(), out.getvalue(),
            'make it anew: tox -e genconfig')

    def test_nonsense_is_refused(self):
        for group, option, value in (
            ('xen44', 'soft_reboot_timeout', 0),
            ('xen44', 'soft_reboot_timeout', 'soon'),
            ('xen44', 'max_concurrent_starts', 0),
            ('xen44', 'max_event_channels', 2 ** 17 + 1),
            ('xen44', 'max_grant_frames', 1),
            ('xen44_x86_64', 'default_guest_type', 'kvm'),
            ('xen44_aarch64', 'default_guest_type', 'pv'),
        ):
            self.assertRaises(
                ValueError, self.flags, group=group, **{option: value})
