# SPDX-License-Identifier: Apache-2.0
"""Nova's own functional tests of servers, on our driver.

They were written for Nova's fake driver. Those that need something of that
driver, a second host or a volume are not here; see the manual
(``contributor/nova-tests``).
"""

import functools

import fixtures
from nova.image import glance
from nova.tests.functional import test_cold_migrate
from nova.tests.functional import test_images
from nova.tests.functional import test_instance_actions
from nova.tests.functional import test_servers
from nova.tests.functional.compute import test_init_host
from nova.tests.functional.regressions import test_bug_1835822
from nova.tests.functional.regressions import test_bug_2025480

from tests.functional import base


class OnXen(base.PatientWaits):
    """Put our driver into a test case of Nova's, in place of a fake one."""

    compute_driver = 'xen44.Xen44Driver'

    def setUp(self):
        self.below = base.DriverFixture(self)
        self.useFixture(self.below)
        self.flags(compute_driver=self.compute_driver)
        self.flags(default_ephemeral_format='ext4')
        self.flags(api_paste_config=base.API_PASTE, group='wsgi')
        self.useFixture(base.UploadsFixture())
        self.useFixture(fixtures.MonkeyPatch(
            'nova.virt.images.fetch', self._fetch))
        # The process has had other hosts at the same URI.
        self.useFixture(fixtures.MonkeyPatch(
            'xen44_driver.xen.facts._names', {}))
        super().setUp()
        base.tolerate_noload()

    def start_service(self, name, host=None, **kwargs):
        """Start a service; the fake driver's node has the host's name."""
        if name == 'compute':
            self.below.host.hostname = host or name
        return super().start_service(name, host=host, **kwargs)

    @staticmethod
    def _fetch(context, image_href, path, trusted_certs=None):
        """Fetch an image; what nobody uploaded is zeros, and sparse."""
        double = glance.get_default_image_service()
        with open(path, 'wb') as image:
            image.write(double._imagedata.get(image_href, b''))
            image.truncate(double.images[image_href]['size'])


def _slow(test):
    """Mark a copy of a test; Nova's own stays as it is."""
    @base.slow
    @functools.wraps(test)
    def run(self):
        test(self)

    return run


def on_xen(nova, *, first=(), slow=()):
    """Return a class of Nova's tests on our driver, with some of its tests.

    :param nova: Nova's class
    :param first: names of tests of the first tier, without ``test_``
    :param slow: names of tests that run with ``--full`` only
    """
    tests = dict.fromkeys(
        name for name in dir(nova) if name.startswith('test_'))
    chosen = {
        **{f'test_{name}': getattr(nova, f'test_{name}') for name in first},
        **{f'test_{name}': _slow(getattr(nova, f'test_{name}'))
           for name in slow}}
    return type(nova.__name__, (OnXen, nova), {
        '__module__': __name__, '__doc__': nova.__doc__, **tests, **chosen})


ColdMigrationAllowSameHost = on_xen(
    test_cold_migrate.ColdMigrationAllowSameHost,
    first=['cold_migrate_same_host_supported'])
ImagesTest = on_xen(
    test_images.ImagesTest,
    first=['admin_snapshot_user_image_access_member'],
    slow=['create_images_negative_invalid_state'])
InstanceActionsTestV221 = on_xen(
    test_instance_actions.InstanceActionsTestV221,
    first=['get_instance_actions_shelve_deleted'])
PortBindingShelvedServerTest = on_xen(
    test_servers.PortBindingShelvedServerTest,
    first=['shelve_offload_with_port'])
ServerDeleteBuildTests = on_xen(
    test_servers.ServerDeleteBuildTests,
    slow=['delete_stuck_build_instance_after_claim'])
ServerSoftDeleteTests = on_xen(
    test_servers.ServerSoftDeleteTests,
    first=['soft_delete_then_restore'], slow=['soft_delete_then_reclaim'])
ServersTest = on_xen(
    test_servers.ServersTest,
    first=['create_and_rebuild_server', 'create_server_with_injected_files',
           'deferred_delete_restore',
           'stop_start_servers_negative_invalid_state'],
    slow=['create_and_delete_server', 'create_multiple_servers',
          'create_server_with_image_type_filter', 'deferred_delete_force',
          'resize_server_negative_invalid_state', 'unshelve_overquota',
          'unshelve_offloaded_overquota'])
TestComputeRestartInstanceStuckInBuild = on_xen(
    test_init_host.TestComputeRestartInstanceStuckInBuild,
    slow=['restart_compute_while_instance_waiting_for_resource_claim'])

# Of bugs in Nova.
RegressionTest1835822 = on_xen(
    test_bug_1835822.RegressionTest1835822,
    first=['create_server_with_forced_config_drive_reboot'],
    slow=['create_server_config_drive_rebuild_after_conf_change',
          'create_server_config_drive_shelve_unshelve_conf_change'])
UnshelveUpdateAvailableResourcesPeriodicRace = on_xen(
    test_bug_2025480.UnshelveUpdateAvailableResourcesPeriodicRace,
    first=['unshelve_spawning_update_available_resources'])
