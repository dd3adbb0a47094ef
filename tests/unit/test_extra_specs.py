# SPDX-License-Identifier: Apache-2.0
"""The validators for Nova's API. (Through the API: tests/functional.)"""

import subprocess
import sys

from nova import exception
from nova import objects

from tests.unit import base
from xen44_driver import extra_specs
from xen44_driver.compute import disk_class
from xen44_driver.compute import guest_type
from xen44_driver.compute import nestedhvm
from xen44_driver.compute import properties
from xen44_driver.compute import xentables
from xen44_driver.xen.diskclass import DiskClass
from xen44_driver.xen.guesttype import GuestType

#: Imports the validators where libvirt and what needs it cannot be.
ALONE = """
import sys
for name in ('libvirt', 'xen44_driver.driver', 'xen44_driver.privsep'):
    sys.modules[name] = None
from xen44_driver import extra_specs
extra_specs.register()
"""


class ExtraSpecsTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.validators = {
            validator.name: validator for validator in extra_specs.register()}

    def test_all_that_the_driver_knows(self):
        self.assertEqual(
            {entry.flavor for entry in properties.table()
             if (entry.flavor or '').startswith('xen44:')},
            set(self.validators))

    def test_described(self):
        for validator in self.validators.values():
            self.assertTrue(validator.description.endswith('.'))

    def test_same_values_as_the_driver(self):
        for name, values in (
            (xentables.EVENT_CHANNELS,
             ('1022', '1023', '131071', '131072', '', 'many', '-1')),
            (xentables.GRANT_FRAMES,
             ('63', '64', '65535', '65536', '', 'many', '-1')),
            (guest_type.EXTRA_SPEC, ('pv', 'pvh', 'hvm', 'PV', '', 'kvm')),
            (disk_class.EXTRA_SPEC, ('qemu', 'kernel', 'Kernel', '', 'tap')),
            (nestedhvm.EXTRA_SPEC, ('true', 'False', 'yes', '0', '', 'svm')),
        ):
            for value in values:
                with self.subTest(name=name, value=value):
                    self.assertEqual(
                        self.accepts(self.driver, name, value),
                        self.accepts(self.api, name, value))

    def api(self, name, value):
        self.validators[name].validate(name, value)

    @staticmethod
    def driver(name, value):
        flavor = objects.Flavor(extra_specs={name: value})
        xentables.of_flavor(flavor)
        guest_type.choose(
            base.image(), flavor, default=GuestType.PV,
            offered=tuple(GuestType))
        disk_class.choose(flavor, offered=tuple(DiskClass))
        nestedhvm.asked(flavor)

    @staticmethod
    def accepts(check, name, value):
        try:
            check(name, value)
        except exception.Invalid:
            return False
        return True

    def test_where_there_is_no_libvirt(self):
        subprocess.run([sys.executable, '-W', 'ignore', '-c', ALONE],
                       check=True, env={'PYTHONPATH': ':'.join(sys.path)})
