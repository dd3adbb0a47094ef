# SPDX-License-Identifier: Apache-2.0
"""A rebuild that is refused before anything is removed."""

from unittest import mock

from nova import exception

from tests.unit import base
from xen44_driver.compute import rebuild
from xen44_driver.xen import errors as xen_errors


class RebuildTest(base.TestCase):

    def check(self, fetch, **properties):
        self.flags(pvh_loader=__file__, group='xen44_x86_64')
        with mock.patch.object(rebuild.disks, 'fetch', fetch):
            self.node, self.instance = base.node(), base.instance(
                extra_specs={'xen44:guest_type': 'pvh'})
            rebuild.check(
                self.node, 'context', self.instance,
                base.image(**properties), network_info=[base.vif()],
                block_device_info=None)

    def test_allowed(self):
        fetch = mock.Mock()
        self.check(fetch)
        fetch.assert_called_once_with(
            self.node, 'context', self.instance, mock.ANY)
        machine = fetch.call_args.args[3]
        self.assertEqual(('pvh', __file__),
                         (machine.guest_type, machine.loader))

    def test_refused(self):
        fetch = mock.Mock(side_effect=exception.ImageUnacceptable(
            image_id='i', reason='r'))
        raised = self.assertRaises(
            exception.InstanceFaultRollback, self.check, fetch)
        self.assertIs(fetch.side_effect, raised.inner_exception)
        fetch.side_effect = xen_errors.DomainNotFound('x')
        raised = self.assertRaises(
            exception.InstanceFaultRollback, self.check, fetch)
        self.assertIn(base.UUID, str(raised.inner_exception))
        fetch.reset_mock()
        self.assertRaises(
            exception.InstanceFaultRollback, self.check, fetch,
            hw_vm_mode='hvm')
        fetch.assert_not_called()

    def test_no_loader(self):
        fetch = mock.Mock()
        with mock.patch.object(rebuild.machine_lib.bootfile, 'look',
                               return_value=mock.Mock(sha256=None)):
            raised = self.assertRaises(
                exception.InstanceFaultRollback, self.check, fetch)
        for text in ('pvh', 'x86_64'):
            self.assertIn(text, str(raised.inner_exception))
        fetch.assert_not_called()
