# SPDX-License-Identifier: Apache-2.0
"""What dom0 gets for NVMe-oF."""

import types

from labkit import debian
from labkit import nvme
from labkit import util
from tests.unit.labkit import base


class InstallTest(base.TestCase):

    def test_install(self):
        self.patch(util, 'need_root', lambda: None)
        self.patch(debian, 'need_tools', lambda: None)
        built = []

        def packages(directory, variant, names, log, *options):
            built.append((names, options))
            directory.mkdir()

        self.patch(debian, 'packages', packages)
        files = {}
        host = types.SimpleNamespace(
            copy_to=lambda source, target, *options: None,
            ssh=lambda argv, input=None: files.update({argv[-1]: input}))
        nvme.install(host)
        self.assertEqual([(nvme.PACKAGES, debian.ALSO_NEXT)], built)
        # The kernel refuses a host whose two names do not belong together.
        self.assertEqual(
            'nqn.2014-08.org.nvmexpress:uuid:' + files['/etc/nvme/hostid'],
            files['/etc/nvme/hostnqn'])
