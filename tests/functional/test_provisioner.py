# SPDX-License-Identifier: Apache-2.0
"""The double of CloudStack's provisioner."""

from oslotest import base

from tests.cloudstack import provisioner


class MergeTest(base.BaseTestCase):

    def test_merge(self):
        vm = provisioner.payload('prepare')['cloudstack.vm.details']
        [nic] = vm['nics']
        found = provisioner.merged(vm, {
            'details': {'External:a': 'b'},
            'nics': [{'uuid': nic['uuid'], 'mac': '00:16:3e:5a:0c:11'}]})
        self.assertEqual(
            {**vm, 'details': {**vm['details'], 'External:a': 'b'},
             'nics': [{**nic, 'mac': '00:16:3e:5a:0c:11'}]}, found)
        self.assertEqual([1], provisioner.merged([{'uuid': 1}], [1]))
