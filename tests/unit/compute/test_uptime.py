# SPDX-License-Identifier: Apache-2.0
"""How long the host has been running."""

import subprocess
from unittest import mock

from oslo_concurrency import processutils

from tests.unit import base
from xen44_driver.compute import uptime


class UptimeTest(base.TestCase):

    def test_for_the_api(self):
        self.assertIn('load average', uptime.text())
        self.assertIn('load average', uptime.stats()['uptime'])

    def test_bounded(self):
        with mock.patch.object(processutils, 'execute') as execute:
            execute.return_value = ('up', '')
            uptime.text()
            # In English, whatever the service's locale is.
            execute.assert_called_once_with(
                'uptime', env_variables={'LC_ALL': 'C'}, timeout=10)
            for error in (subprocess.TimeoutExpired('uptime', 10),
                          processutils.ProcessExecutionError(),
                          FileNotFoundError('uptime')):
                execute.side_effect = error
                # The key has to be there: without it the API asks by RPC.
                self.assertEqual({'uptime': None}, uptime.stats())
