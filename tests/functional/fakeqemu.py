# SPDX-License-Identifier: Apache-2.0
"""A double of the QEMU processes behind the disks of fakelibvirt's domains.

Each running domain has one, known by the domain's number, so that it is
another one after a reboot. It answers what the driver asks its monitor, and
its jobs copy the disk's file with qemu-img when they are first looked at (or
not, see :attr:`FakeQemuFixture.slow`).
"""

import collections
import os
import subprocess

import fixtures
from lxml import etree

from xen44_driver import privsep
from xen44_driver.xen import qmp

#: Bytes that the double has copied at each look.
STEP = 1000


class Qemu:
    """One QEMU.

    :ivar nodes: block nodes that were added: name -> arguments
    :ivar jobs: job id -> QEMU's record of it
    :ivar throttles: device -> limits that were set
    :ivar roots: target of a disk -> the node that a mirror has given it
    :ivar closed: nodes of disks that were deleted
    """

    def __init__(self):
        self.nodes = {}
        self.roots = {}
        self.closed = set()
        self.throttles = collections.defaultdict(dict)
        self.jobs = {}


class FakeQemuFixture(fixtures.Fixture):
    """Put the double behind privsep's functions.

    :param host: the :class:`fakelibvirt.XenHost` whose domains it knows
    :ivar qemus: the QEMU of each number of a domain
    :ivar slow: whether a job goes on until it is cancelled
    :ivar refused: command -> QEMU's message, from now on
    :ivar job_error: what ends the next jobs, instead of success
    :ivar on_complete: called when a job has been completed
    :ivar emulated: whether disks are also emulated, as before PV drivers
    :ivar on_look: called whenever a client looks at the jobs
    :ivar executed: names of all commands
    """

    def __init__(self, host) -> None:
        super().__init__()
        self._host = host
        self.qemus = collections.defaultdict(Qemu)
        self.slow = False
        self.refused = {}
        self.job_error = None
        self.emulated = False
        self.on_look = lambda: None
        self.on_complete = lambda: None
        self.executed = []

    def _setUp(self):
        directory = self.useFixture(fixtures.TempDir()).path
        self.useFixture(fixtures.MonkeyPatch(
            'xen44_driver.privsep.MONITOR_DIR', f'{directory}/run'))
        self.useFixture(fixtures.MonkeyPatch(
            'xen44_driver.privsep.execute_monitor', self._execute))

    def clean(self):
        """Whether no QEMU has a job, or a node that no disk has."""
        return not any(
            one.jobs or {*one.nodes}.difference(one.roots.values())
            for one in self.qemus.values())

    def _execute(self, uuid, commands, timeout, domid=None):
        answers = []
        for name, arguments in commands:
            assert name in privsep.MONITOR_COMMANDS, name
            domain = self._host.domains.get(uuid)
            if domain is None or not domain.isActive():
                raise qmp.MonitorUnavailable('Connection refused')
            self.executed.append(name)
            if name in self.refused:
                raise qmp.CommandFailed(
                    name, 'GenericError', self.refused[name])
            method = getattr(self, '_' + name.replace('-', '_'))
            answers.append(method(
                domain, self.qemus[domain.ID()], **{
                    key.replace('-', '_'): value
                    for key, value in arguments.items()}))
        return answers

    def _query_block(self, domain, qemu):
        answer = [{'device': 'empty', 'removable': True}]
        for number, disk in enumerate(self._disks(domain)):
            target, format, path = disk
            device = f'/machine/unattached/device[{number}]'
            node = qemu.roots.get(target, f'{target}-{format}')
            inserted = {**qemu.throttles[device], 'node-name': node,
                        'file': qemu.nodes[node]['file']['filename']
                        if node in qemu.nodes else path,
                        'image': {'virtual-size': self._size(path, format)}}
            answer.append({'device': '', 'inserted': inserted,
                           'qdev': device})
            if self.emulated:
                answer.append({'device': f'ide0-hd{number}', 'inserted': {
                    **inserted, 'node-name': f'#block{number}'},
                    'qdev': f'/machine/unattached/device[{number + 50}]'})
        return answer

    def _query_blockstats(self, domain, qemu):
        return [{'node-name': qemu.roots.get(
            target, f'{target}-{format}'), 'stats': {
            'rd_bytes': 1024, 'rd_operations': 2, 'wr_bytes': 512,
            'wr_operations': 1, 'flush_operations': 3}}
            for target, format, _path in self._disks(domain)]

    def _block_set_io_throttle(self, domain, qemu, id, **limits):
        qemu.throttles[id] = limits

    def _block_resize(self, domain, qemu, node_name, size):
        path, = [path for target, format, path in self._disks(domain)
                 if qemu.roots.get(target, f'{target}-{format}') == node_name]
        os.truncate(path, size)

    def _blockdev_add(self, domain, qemu, **arguments):
        qemu.nodes[arguments['node_name']] = arguments

    def _blockdev_del(self, domain, qemu, node_name):
        assert not qemu.jobs, 'node is in use'
        in_use = {qemu.roots.get(target, f'{target}-{format}')
                  for target, format, _path in self._disks(domain)}
        assert node_name not in in_use, 'node is in use'
        if qemu.nodes.pop(node_name, None) is None:
            qemu.closed.add(node_name)

    def _query_named_block_nodes(self, domain, qemu, flat):
        return [
            *({'node-name': name, 'file': node['file']['filename']}
              for name, node in qemu.nodes.items()),
            *({'node-name': f'{target}-{format}', 'file': path}
              for target, format, path in self._disks(domain)
              if f'{target}-{format}' not in qemu.closed)]

    def _blockdev_mirror(self, domain, qemu, job_id, device, target, sync,
                         copy_mode, auto_dismiss):
        assert (sync, copy_mode, auto_dismiss) == (
            'full', 'write-blocking', False)
        source, = [disk for disk in self._disks(domain)
                   if qemu.roots.get(disk[0], f'{disk[0]}-{disk[1]}')
                   == device]
        qemu.jobs[job_id] = {
            'id': job_id, 'status': 'running', 'type': 'mirror',
            'current-progress': 0, 'total-progress': 10 * STEP,
            'copy': (source, qemu.nodes[target])}

    def _job_complete(self, domain, qemu, id):
        job = qemu.jobs[id]
        assert job['status'] == 'ready'
        (target, _format, _path), node = job['copy']
        job['status'] = 'concluded'
        qemu.roots[target] = node['node_name']
        self.on_complete()

    def _transaction(self, domain, qemu, actions):
        action, = actions
        assert action['type'] == 'blockdev-backup'
        data = action['data']
        target = qemu.nodes[data['target']]
        assert data['compress'] == (target['driver'] == 'qcow2')
        # More would queue before what the guest writes.
        assert data['x-perf']['max-workers'] <= 4
        emulated = data['device'].startswith('#block')
        source, = [disk for number, disk in enumerate(self._disks(domain))
                   if data['device'] == (
                       f'#block{number}' if emulated
                       else f'{disk[0]}-{disk[1]}')]
        qemu.jobs[data['job-id']] = {
            'id': data['job-id'], 'status': 'running', 'type': 'backup',
            'current-progress': 0, 'total-progress': 10 * STEP,
            'copy': (source, target)}

    def _query_jobs(self, domain, qemu):
        self.on_look()
        for job in qemu.jobs.values():
            job['current-progress'] += STEP
            if job['status'] == 'running' and not self.slow:
                self._end(job)
        return [{key: value for key, value in job.items() if key != 'copy'}
                for job in qemu.jobs.values()]

    def _end(self, job):
        if self.job_error:
            job |= {'status': 'concluded', 'error': self.job_error}
            return
        job['status'] = 'ready' if job['type'] == 'mirror' else 'concluded'
        (_target, format, path), target = job['copy']
        subprocess.run(
            ['qemu-img', 'convert', '-n', '-U', '-f', format,
             '-O', target['driver'], path, target['file']['filename']],
            check=True)

    def _job_cancel(self, domain, qemu, id):
        qemu.jobs[id] |= {'status': 'concluded', 'error': 'cancelled'}

    def _job_dismiss(self, domain, qemu, id):
        assert qemu.jobs.pop(id)['status'] == 'concluded'

    @staticmethod
    def _disks(domain):
        return [(disk.find('target').get('dev'),
                 disk.find('driver').get('type'),
                 disk.find('source').get('file'))
                for disk in etree.fromstring(domain.live).xpath(
                    "devices/disk[@device='disk'][driver/@name='qemu']")]

    @staticmethod
    def _size(path, format):
        with open(path, 'rb') as file:
            if format == 'qcow2':
                return int.from_bytes(file.read(32)[24:32], 'big')
            return file.seek(0, 2)
