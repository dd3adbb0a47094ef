# SPDX-License-Identifier: Apache-2.0
"""cinder-volume of dom0: when it is started, and when it serves."""

import datetime
import types

from labkit import compute
from labkit import util
from labkit import volumes
from labkit.cloud import Cloud
from labkit.cloud import content
from tests.unit.labkit import base


class FakeHost:
    """dom0 that has cinder-volume configured and running, or has not."""

    name = 'xen1'
    number = 1

    def __init__(self, *, configured, active=False):
        self.answers = {'test': configured, 'is-active': active}
        self.started = False

    def ssh(self, argv, **_):
        self.started |= 'start' in argv
        return types.SimpleNamespace(returncode=int(not any(
            answer for word, answer in self.answers.items() if word in argv)))


class StartTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.output()
        self.done = []
        self.patch(compute, 'configure',
                   lambda host, files: self.done.append(sorted(files)))
        self.cloud = Cloud()
        self.cloud.wait_volumes = (
            lambda host, timeout, since, hopeless:
            self.done.append((host, since is not None)))
        self.patch(compute, 'collect_logs',
                   lambda host: self.done.append('logs'))

    def test_it_waits_for_its_configuration_or_was_never_started(self):
        host = FakeHost(configured=False)
        volumes.start(host, self.cloud)
        self.assertEqual([[volumes.CINDER_CONF], ('xen1', True)], self.done)
        # The first one does not notice, the second one depends on it.
        self.assertTrue(host.started)

    def test_it_was_started_before(self):
        host = FakeHost(configured=True, active=True)
        volumes.start(host, self.cloud)
        self.assertEqual([('xen1', False)], self.done)
        self.assertFalse(host.started)

    def test_it_was_stopped(self):
        host = FakeHost(configured=True)
        volumes.start(host, self.cloud)
        self.assertEqual([('xen1', True)], self.done)
        self.assertTrue(host.started)

    def test_its_log_is_kept_if_it_does_not_serve(self):
        def fail(*_, **__):
            raise util.LabError('in vain')

        self.cloud.wait_volumes = fail
        self.assertRaises(util.LabError, volumes.start,
                          FakeHost(configured=True), self.cloud)
        self.assertEqual(['logs'], self.done)


class WaitTest(base.TestCase):

    SINCE = datetime.datetime(2026, 11, 26, 14, 0, tzinfo=datetime.UTC)

    def setUp(self):
        super().setUp()
        self.output()
        self.stamps = {}

        self.cloud = Cloud()
        self.cloud.client = lambda: types.SimpleNamespace(call=self.call)

    def call(self, method, service, path):
        return {'pools': [
            {'name': name, 'capabilities': {'timestamp': stamp}}
            for name, stamp in self.stamps.items()]}

    def wait(self, **options):
        self.cloud.wait_volumes('xen1', 0, self.SINCE, **options)

    def test_each_backend_has_reported(self):
        self.stamps = {
            f'xen1@{name}#{name}': f'2026-11-26T14:00:0{number}.5'
            for number, name in enumerate(content.VOLUME_TYPES, 1)}
        self.wait()
        self.assertRaises(util.LabError, self.wait, more=['gluster'])
        self.stamps['xen1@gluster#gluster'] = '2026-11-26T14:00:09'
        self.wait(more=['gluster'])

    def test_one_is_missing_or_old(self):
        self.stamps = {f'xen1@{name}#{name}': '2026-11-26T14:00:01.5'
                       for name in content.VOLUME_TYPES if name != 'nfs'}
        self.assertRaises(util.LabError, self.wait)
        self.stamps['xen1@nfs#nfs'] = '2026-11-26T13:59:59'
        self.assertRaises(util.LabError, self.wait)
