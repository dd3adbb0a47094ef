# SPDX-License-Identifier: Apache-2.0
"""A rebuild that is refused before anything is removed."""

from unittest import mock

from nova import exception

from tests.unit import base
from xen44_driver.compute import rebuild


class RebuildTest(base.TestCase):

    def check(self, fetch, **properties):
        self.flags(pvh_loader=__file__, group='xen44_x86_64')
        with mock.patch.object(rebuild.disks, 'fetch', fetch):
            rebuild.check(
                base.node(), 'context', base.instance(
                    extra_specs={'xen44:guest_type': 'pvh'}),
                base.image(**properties), network_info=[base.vif()],
                block_device_info=None)

    def test_allowed(self):
        fetch = mock.Mock()
        self.check(fetch)
        fetch.assert_called_once()

    def test_refused(self):
        fetch = mock.Mock(side_effect=exception.ImageUnacceptable(
            image_id='i', reason='r'))
        self.assertRaises(
            exception.InstanceFaultRollback, self.check, fetch)
        fetch.reset_mock()
        self.assertRaises(
            exception.InstanceFaultRollback, self.check, fetch,
            hw_vm_mode='hvm')
        fetch.assert_not_called()
