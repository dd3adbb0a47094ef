# SPDX-License-Identifier: Apache-2.0
"""A Gluster volume on this machine, served as an iSCSI disk.

Three bricks hold the same. ``tgt`` serves a file of the volume by libgfapi, so
no kernel but that of the initiator takes part. Everything runs as processes of
this lab, in its network namespace (:func:`labkit.util.in_netns`).
"""

from __future__ import annotations

import contextlib
import pathlib
import shutil
from xml.etree import ElementTree

from labkit import config
from labkit import util

PACKAGES = ('glusterfs-server', 'qemu-block-extra', 'qemu-utils', 'tgt',
            'tgt-glusterfs')

#: The name of the iSCSI target.
TARGET = 'iqn.2026-02.org.openstack.xenlab:gluster'

#: Seconds for a command of Gluster's.
TIMEOUT = 120

BRICKS = 3
VOLUME = 'gate'
FILE = 'lun'
#: tgtd's number among those of this machine.
_CONTROL = '44'

_GLUSTERD = '''volume management
    type mgmt/glusterd
    option working-directory {directory}/work
    option run-directory {directory}/run
    option glusterd-sockfile {directory}/glusterd.sock
    option transport-type socket
    option transport.socket.bind-address {address}
    option transport.socket.listen-port 24007
    option max-port 60999
end-volume
'''


class Gluster:
    """A volume of :data:`BRICKS` bricks, and a disk on it.

    :param directory: for all of it; what is there is thrown away.
    :param netns: whether the caller is outside of the lab's network namespace.
    """

    def __init__(self, directory: pathlib.Path, netns: bool = False) -> None:
        self.directory = directory
        self.log = config.LOGS / 'gluster.log'
        self._netns = netns
        self._glusterd = config.RUN / 'glusterd.pid'
        self._tgtd = config.RUN / 'tgtd.pid'

    def start(self, size: int, initiator: str) -> None:
        """Start it with an empty disk.

        :param size: bytes of the disk.
        :param initiator: the address that may log in.
        :raises LabError: a part does not start.
        """
        self.stop()
        for name in ('work', 'run', *map(self._brick, range(BRICKS))):
            (self.directory / name).mkdir(parents=True)
        options = self.directory / 'glusterd.vol'
        options.write_text(_GLUSTERD.format(
            directory=self.directory, address=config.CONTROLLER_IP))
        util.spawn(['glusterd', '--no-daemon', '--volfile', options,
                    '--log-file', '-'],
                   log=self.log, pidfile=self._glusterd, netns=self._netns)
        util.wait_for('glusterd', self._answers, TIMEOUT, self.log, interval=1)
        self.command(
            'volume', 'create', VOLUME, 'replica', str(BRICKS),
            *(f'{config.CONTROLLER_IP}:{self.directory / self._brick(number)}'
              for number in range(BRICKS)), 'force')
        self.command(
            'volume', 'set', VOLUME,
            # A brick that lacks a write is noted at once, although others
            # follow, and is healed in the parts of the disk that it lacks.
            'cluster.post-op-delay-secs', '0', 'features.shard', 'on',
            # What could not be healed when a brick came back, since it was
            # being written, is tried again soon, not after ten minutes.
            'cluster.heal-timeout', '5')
        self.command('volume', 'start', VOLUME)
        self._run('qemu-img', 'create', '-q', '-f', 'raw',
                  f'gluster://{config.CONTROLLER_IP}/{VOLUME}/{FILE}',
                  str(size))
        util.spawn(['tgtd', '--foreground', '--control-port', _CONTROL,
                    '--iscsi', f'portal={config.CONTROLLER_IP}:3260'],
                   log=self.log, pidfile=self._tgtd, netns=self._netns)
        util.wait_for('tgtd', lambda: self._tgtadm(
            'show', 'target', check=False), TIMEOUT, self.log, interval=1)
        self._tgtadm('new', 'target', '-T', TARGET)
        self._tgtadm('new', 'logicalunit', '--lun', '1', '--bstype', 'glfs',
                     '--backing-store',
                     f'{VOLUME}@{config.CONTROLLER_IP}:{FILE}')
        self._tgtadm('bind', 'target', '-I', initiator)

    def stop(self) -> None:
        """End all of it and throw it away."""
        # It ends by force only.
        util.stop(self._tgtd, grace=0)
        if util.running(self._glusterd):
            with contextlib.suppress(util.LabError):
                self.command('volume', 'stop', VOLUME, 'force', check=False)
            util.stop(self._glusterd)
        # Bricks and healers that glusterd has left.
        for pidfile in self.directory.glob('run/**/*.pid'):
            pid = pidfile.read_text().strip()
            with contextlib.suppress(FileNotFoundError):
                # Its arguments name its pid file.
                started = pathlib.Path('/proc', pid, 'cmdline').read_text()
                if str(pidfile) in started:
                    util.run(['kill', '-9', pid], check=False)
        shutil.rmtree(self.directory, ignore_errors=True)

    def kill_brick(self, number: int) -> None:
        """Kill the process of a brick."""
        path = str(self.directory / self._brick(number)).replace('/', '-')
        pid, = (self.directory / 'run/vols' / VOLUME).glob(f'*{path}.pid')
        process = pathlib.Path('/proc', pid.read_text().strip())
        util.run(['kill', '-9', process.name])
        # As long as it is a zombie, glusterd takes it for running, and would
        # not start the brick anew.
        util.wait_for(f'brick {number} to be gone',
                      lambda: not process.exists(), TIMEOUT)

    def start_bricks(self) -> None:
        """Start those that do not run."""
        self.command('volume', 'start', VOLUME, 'force')

    def unhealed(self) -> int:
        """How many files (parts of the disk) have to be healed.

        Each brick counts for itself.
        """
        said = self.command('volume', 'heal', VOLUME, 'statistics',
                            'heal-count')
        return sum(int(line.rpartition(':')[2]) for line in said.splitlines()
                   if line.startswith('Number of entries:'))

    def bricks(self) -> int:
        """How many bricks run."""
        # The table for people breaks the line of a brick with a long path.
        said = self.command('--xml', 'volume', 'status', VOLUME)
        volumes = ElementTree.fromstring(said)  # noqa: S314 our own Gluster's
        # Only bricks have paths; the healer has 'localhost' there.
        return sum(node.findtext('status') == '1'
                   for node in volumes.iter('node')
                   if node.findtext('path', '').startswith('/'))

    def command(self, *argv: str, check: bool = True) -> str:
        """Run Gluster's command; returns what it prints."""
        return self._run(
            'gluster', '--mode=script',
            f'--glusterd-sock={self.directory}/glusterd.sock', *argv,
            check=check)

    @staticmethod
    def _brick(number: int) -> str:
        return f'brick{number}'

    def _answers(self) -> bool:
        return 'No volumes' in self.command('volume', 'list', check=False)

    def _tgtadm(self, operation: str, mode: str, *argv: str,
                check: bool = True) -> bool:
        tid = [] if operation == 'show' else ['--tid', '1']
        return util.run(
            ['tgtadm', '-C', _CONTROL, '--lld', 'iscsi', '--op', operation,
             '--mode', mode, *tid, *argv], netns=self._netns,
            check=check).returncode == 0

    def _run(self, *argv: str, check: bool = True) -> str:
        done = util.run(argv, netns=self._netns, timeout=TIMEOUT, check=check)
        return done.stdout + done.stderr
