# SPDX-License-Identifier: Apache-2.0
"""``xen44-host maintenance``: what it asks Nova for, and what it keeps."""

import json
import os
import stat
import time

import fixtures
from nova.compute import power_state
import openstack
from openstack import exceptions

from tests.unit.cmd import base
from tests.unit.cmd import fakenova
from xen44_driver.cmd import stopped

ON = ('maintenance', 'on', '--reason', 'new RAM')
STOP = (*ON, '--stop', '--yes')
OFF = ('maintenance', 'off')


class MaintenanceTestCase(base.CommandTestCase):
    """A host with two instances that run and one that is stopped."""

    def setUp(self):
        super().setUp()
        self.state = self.useFixture(fixtures.TempDir()).path
        self.flags(host='xen1', state_path=self.state)
        self.nova = fakenova.Nova()
        self.connect = self.patch(openstack, 'connect')
        self.connect.return_value.__enter__.return_value.compute = self.nova
        self.fake_time()
        self.one, self.two = self.nova.add(1), self.nova.add(2, name='K\x9bse')
        self.off = self.nova.add(3, vm_state='stopped',
                                 power=power_state.SHUTDOWN)

    def record(self):
        """UUIDs in the file."""
        with open(stopped.path(), encoding='utf-8') as file:
            return json.load(file)['stopped']

    def json(self, *argv, status=0):
        found, text = self.run_json(*argv)
        self.assertEqual(status, found, text)
        return json.loads(text)

    def asked(self, verb):
        return [call[1] for call in self.nova.calls
                if isinstance(call, tuple) and call[0] == verb]


class GoldenTest(MaintenanceTestCase):

    def test_on(self):
        status, text = self.run_host(*ON)
        self.assertEqual(0, status, text)
        self.assert_golden('maintenance-on.txt', text)
        self.assertEqual([{'status': 'disabled',
                           'disabled_reason': 'new RAM'}], self.nova.calls)

    def test_stop(self):
        status, text = self.run_host(*STOP)
        self.assertEqual(0, status, text)
        self.assert_golden('maintenance-stop.txt', text)

    def test_stop_json(self):
        self.assert_golden('maintenance-stop.json', self.run_json(*STOP)[1])

    def test_stop_broken(self):
        """One cannot be stopped, one is not stopped in time."""
        self.nova.fail[self.one] = fakenova.refusal()
        self.nova.stuck.add(self.two)
        status, text = self.run_host(*STOP)
        self.assertEqual(1, status)
        self.assert_golden('maintenance-stop-broken.txt', text)

    def test_off(self):
        self.run_host(*STOP)
        status, text = self.run_host(*OFF)
        self.assertEqual(0, status, text)
        self.assert_golden('maintenance-off.txt', text)

    def test_start(self):
        self.run_host(*STOP)
        status, text = self.run_host(*OFF, '--start')
        self.assertEqual(0, status, text)
        self.assert_golden('maintenance-start.txt', text)

    def test_start_broken(self):
        self.run_host(*STOP)
        self.nova.fail[self.one] = fakenova.refusal('No valid disk')
        status, text = self.run_host(*OFF, '--start')
        self.assertEqual(1, status)
        self.assert_golden('maintenance-start-broken.txt', text)

    def test_nova_goes_away(self):
        self.nova.fail['stop_server'] = exceptions.SDKException('no route')
        status, text = self.run_host(*STOP)
        self.assertEqual(2, status)
        self.assert_golden('maintenance-no-nova.txt', text)


class OnTest(MaintenanceTestCase):

    def test_reasons(self):
        for reason in ('', ' ', 'x' * 256, 'a\nb', 'AUTO: libvirt is away'):
            with self.subTest(reason):
                status, text = self.run_host(
                    'maintenance', 'on', '--reason', reason)
                self.assertEqual(2, status)
                self.assertIn('xen44-host: the reason', text)
        self.assertEqual([], self.nova.calls)

    def test_white_space_around_the_reason(self):
        self.run_host('maintenance', 'on', '--reason', ' dust ')
        self.assertEqual('dust', self.nova.service['disabled_reason'])

    def test_no_terminal(self):
        status, text = self.run_host(*ON, '--stop')
        self.assertEqual(2, status)
        self.assertIn('add --yes', text)
        self.assertEqual([], self.nova.calls)

    def test_asked(self):
        self.answer('y')
        status, text = self.run_host(*ON, '--stop')
        self.assertEqual(0, status)
        self.assertIn('Stop these 2 instances? [y/N]', text)
        self.assertEqual([self.one, self.two], self.asked('stop'))

    def test_no(self):
        for answer in ('', 'n', 'yesterday'):
            self.answer(answer)
            status, text = self.run_host(*ON, '--stop')
            self.assertEqual(1, status)
            self.assertIn('No instance was stopped', text)
        self.assertEqual([], self.asked('stop'))
        # The reason is with it.
        self.assertEqual('new RAM', self.nova.service['disabled_reason'])

    def test_not_root(self):
        self.patch(os, 'geteuid', lambda: 1000)
        status, text = self.run_host(*ON)
        self.assertEqual(2, status)
        self.assertEqual('xen44-host: run it as root\n', text)
        self.connect.assert_not_called()

    def test_another_host(self):
        self.flags(host='xen2')
        status, text = self.run_host(*ON)
        self.assertEqual(2, status)
        self.assertIn("'xen2'", text)
        self.assertIn('Done before that: nothing', text)

    def test_no_rights(self):
        self.nova.fail['services'] = fakenova.refusal('forbidden', 403)
        status, text = self.run_host(*ON)
        self.assertEqual(2, status)
        self.assertIn('forbidden', text)

    def test_nova_ignores_it(self):
        self.patch(self.nova, 'update_service', return_value=(
            next(self.nova.services())))
        status, text = self.run_host(*ON)
        self.assertEqual(2, status)
        self.assertIn("says {'status': 'enabled'", text)

    def test_disabled_before(self):
        self.nova.service.update(status='disabled', disabled_reason='dust')
        done = self.json(*ON)['done']
        self.assertIn('with the reason: dust', done[0])
        self.assertEqual('new RAM', self.nova.service['disabled_reason'])

    def test_again(self):
        self.run_host(*ON)
        self.json(*ON)
        self.assertEqual(1, len(self.nova.calls))

    def test_nova_compute_is_down(self):
        self.nova.service['state'] = 'down'
        status, text = self.run_host(*STOP)
        self.assertEqual(2, status)
        self.assertIn('Done before that: the service is disabled: new', text)
        self.assertEqual([], self.asked('stop'))
        self.assertEqual(0, self.run_host(*ON)[0])

    def test_nothing_runs(self):
        self.nova.all.clear()
        status, text = self.run_host(*ON, '--stop', '--yes')
        self.assertEqual(0, status)
        self.assertIn('No instance runs here.', text)

    def test_interrupted_and_again(self):
        self.nova.fail['stop_server'] = KeyboardInterrupt()
        status, text = self.run_host(*STOP)
        self.assertEqual(2, status)
        self.assertIn('interrupted. Done before that: the service is '
                      'disabled: new RAM; instances that Nova was asked to '
                      'stop: 1. Run', text)
        # Nova may have heard it.
        self.assertEqual([self.one], self.record())
        self.assertEqual([self.one, self.two], self.json(*STOP)['stopped'])

    def test_a_build_is_waited_for(self):
        self.nova.all[self.one].update(
            vm_state='building', power_state=power_state.NOSTATE,
            task_state='spawning')
        self.patch(time, 'sleep', lambda seconds: self.nova.all[
            self.one].update(vm_state='active', task_state=None,
                             power_state=power_state.RUNNING)
            if not self.asked('stop')[1:] else None)
        self.assertEqual([self.one, self.two], self.json(*STOP)['stopped'])
        self.assertEqual([self.two, self.one], self.asked('stop'))

    def test_deleted_meanwhile(self):
        self.patch(self.nova, 'stop_server', self._delete(self.one))
        found = self.json(*STOP)
        self.assertEqual(([], [self.two]),
                         (found['problems'], found['stopped']))

    def _delete(self, doomed):
        stop = self.nova.stop_server

        def delete_or_stop(uuid):
            if uuid == doomed:
                del self.nova.all[uuid]
                raise fakenova.refusal('gone', 404)
            stop(uuid)

        return delete_or_stop

    def test_nova_cannot(self):
        """Its task ends, and the instance still runs."""
        self.patch(self.nova, 'stop_server',
                   side_effect=self.nova.calls.append)
        found = self.json(*STOP, status=1)
        self.assertEqual([self.one, self.two],
                         [problem['uuid'] for problem in found['problems']])
        self.assertIn('and could not', found['problems'][0]['text'])
        self.assertEqual([self.one, self.two], self.nova.calls[1:])

    def test_an_error_of_nova_is_not_a_refusal(self):
        """It may stop the instance nevertheless."""
        self.nova.fail[self.one] = fakenova.refusal('oops', 500)
        self.nova.fail[self.two] = fakenova.refusal()
        self.json(*STOP, status=1)
        self.assertEqual([self.one], self.record())

    def test_a_maintenance_before(self):
        """What it left stopped is not this one's."""
        self.run_host(*STOP)
        self.run_host(*OFF)
        self.nova.all[self.two].update(
            vm_state='active', power_state=power_state.RUNNING)
        found = self.json(*STOP)
        self.assertIn(f'will not start them: {self.one}, {self.two}',
                      found['done'][0])
        self.assertEqual([self.two], found['stopped'])


class OffTest(MaintenanceTestCase):

    def setUp(self):
        super().setUp()
        self.run_host(*STOP)
        self.nova.calls.clear()

    def test_off_and_start_later(self):
        found = self.json(*OFF)
        self.assertEqual({'status': 'enabled', 'reason': None},
                         found['service'])
        self.assertEqual([self.one, self.two], found['stopped'])
        self.assertEqual([], self.asked('start'))
        self.assertEqual([], self.json(*OFF, '--start')['stopped'])
        self.assertEqual([self.one, self.two], self.asked('start'))
        self.assertEqual(1, self.nova.calls.count({'status': 'enabled'}))

    def test_started_or_moved_meanwhile(self):
        self.nova.all[self.one].update(
            vm_state='active', power_state=power_state.RUNNING)
        del self.nova.all[self.two]
        found = self.json(*OFF, '--start')
        self.assertEqual([], self.asked('start'))
        self.assertIn(f'moved since: {self.two}', ' '.join(found['done']))
        self.assertEqual([], self.record())

    def test_again_after_a_failure(self):
        self.nova.stuck.add(self.one)
        found = self.json(*OFF, '--start', '--timeout', '20', status=1)
        self.assertEqual([self.one], found['stopped'])
        self.assertIn('within 20 s', found['problems'][0]['text'])
        self.nova.stuck.clear()
        self.assertEqual([], self.json(*OFF, '--start')['stopped'])
        self.assertEqual([self.one, self.two], self.asked('start'))

    def test_no_libvirt(self):
        self.stop_libvirt()
        status, text = self.run_host(*OFF)
        self.assertEqual(2, status)
        self.assertIn('refused', text)
        self.assertEqual([], self.nova.calls)

    def test_nova_compute_is_down(self):
        self.nova.service['state'] = 'down'
        status, text = self.run_host(*OFF, '--start')
        self.assertEqual(2, status)
        self.assertIn('nova-compute of this host is down', text)
        self.assertEqual([], self.nova.calls)


class RecordTest(MaintenanceTestCase):

    def test_two_at_once(self):
        with stopped.locked():
            status, text = self.run_host(*STOP)
        self.assertEqual(2, status)
        self.assertIn('another xen44-host maintenance', text)
        self.assertEqual([], self.nova.calls)

    def test_only_for_root(self):
        self.run_host(*STOP)
        mode = stat.S_IMODE(os.stat(stopped.path()).st_mode)
        self.assertEqual(0o600, mode)
        self.assertEqual([os.path.basename(stopped.path())],
                         os.listdir(self.state))

    def test_never_writes_to_what_is_there(self):
        other = os.path.join(self.state, 'other')
        record = stopped.Stopped()
        os.symlink(other, stopped.path())
        record.add(self.one)
        self.assertFalse(os.path.lexists(other))
        self.assertEqual([self.one], self.record())

    def test_disk_full(self):
        self.patch(os, 'fsync', side_effect=OSError(28, 'No space left'))
        status, text = self.run_host(*STOP)
        self.assertEqual(2, status)
        self.assertIn('No space left', text)
        self.assertEqual([], self.asked('stop'))
        self.assertEqual([], os.listdir(self.state))

    def test_bad_files(self):
        good = {'version': 1, 'host': 'xen1', 'stopped': [self.one]}
        for bad in (
                '', '{', '[]', '[' * 100000, b'\xff', {**good, 'version': 2},
                {**good, 'host': 'xen2'}, {**good, 'stopped': self.one},
                {**good, 'stopped': [7]}, {**good, 'stopped': ['../x']},
                ' ' * (5 << 20)):
            with self.subTest(str(bad)[:40]):
                content = bad if isinstance(bad, (str, bytes)) else (
                    json.dumps(bad))
                with open(stopped.path(), 'wb') as file:
                    file.write(content if isinstance(content, bytes)
                               else content.encode())
                self.assert_refused()

    def assert_refused(self):
        status, text = self.run_host(*STOP)
        self.assertEqual(2, status)
        self.assertIn(f'{stopped.path()}, the record of stopped', text)
        self.assertEqual([], self.nova.calls)

    def test_not_a_file(self):
        for number, make in enumerate((
                os.mkfifo, os.mkdir,
                lambda path: os.symlink('/etc/hostname', path))):
            make(stopped.path())
            self.assert_refused()
            os.rename(stopped.path(), os.path.join(self.state, f'{number}'))

    def test_of_another_user(self):
        stopped.Stopped().add(self.one)
        owner = os.getuid()
        self.patch(os, 'getuid', lambda: owner + 1)
        self.assert_refused()
