# SPDX-License-Identifier: Apache-2.0
"""Ceph on this machine: one monitor, one manager, one OSD, and cephx.

They run as processes of this lab, in its network namespace
(:func:`labkit.util.in_netns`). All that is stored is in one file, once.
What a client needs comes beside, for dom0, whose image does not have it: it is
a tenth of the image, and one test needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
import json
import pathlib
import shutil
import uuid

from labkit import config
from labkit import extras
from labkit import util
from labkit.host import XenHost

PACKAGES = ('ceph-common', 'ceph-mgr', 'ceph-mon', 'ceph-osd')

#: What a client has: programs, udev's rules, and librbd for Python.
CLIENT_PACKAGES = ('ceph-common',)

#: Seconds for a command of Ceph's.
TIMEOUT = 120
#: MiB that the three processes need, with room to spare.
MEMORY = 768

#: The pool of the volumes, and who may use it.
POOL = 'volumes'
USER = 'cinder'
#: Placement groups of the pool.
_PARTS = 8
#: Where a client has its configuration and its key.
CLIENT_CONF = '/etc/ceph/ceph.conf'
CLIENT_KEYRING = f'/etc/ceph/ceph.client.{USER}.keyring'

_ADDRESS = f'[v2:{config.CONTROLLER_IP}:3300,v1:{config.CONTROLLER_IP}:6789]'
_CLIENT = f'client.{USER}'
#: Who there is, and what each may do.
_CAPS: Mapping[str, Mapping[str, str]] = {
    'mon.': {'mon': 'allow *'},
    'client.admin': {'mon': 'allow *', 'mgr': 'allow *', 'osd': 'allow *'},
    'mgr.lab': {'mon': 'allow profile mgr', 'osd': 'allow *'},
    'osd.0': {'mon': 'allow profile osd', 'mgr': 'allow profile osd',
              'osd': 'allow *'},
    _CLIENT: {'mon': 'profile rbd', 'mgr': f'profile rbd pool={POOL}',
              'osd': f'profile rbd pool={POOL}'},
}

_CONF = '''[global]
fsid = {fsid}
mon_host = {address}
'''
_DAEMONS = '''public_addr = {ip}
keyring = {directory}/keyring
run_dir = {directory}
admin_socket = {directory}/$name.asok
log_file =
mon_cluster_log_file = {directory}/cluster.log
mon_data = {directory}/mon
mgr_data = {directory}/mgr
osd_data = {directory}/osd
# A machine whose disk is nearly full is none of the lab's business.
mon_data_avail_crit = 1
mon_allow_pool_size_one = true
osd_pool_default_size = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
bluestore_block_size = {size}
bluestore_cache_autotune = false
bluestore_cache_size = 33554432
'''


def client() -> pathlib.Path:
    """A directory with all of a client; unpacked if it is not cached.

    :raises util.LabError: the packages cannot be had.
    """
    return extras.unpacked('ceph-client', CLIENT_PACKAGES)


def install_client(host: XenHost) -> None:
    """Have a client's files in dom0, until the lab starts anew."""
    extras.install(host, client())


class Ceph:
    """A cluster with a pool of images.

    :param directory: for all of it; what is there is thrown away.
    :param netns: whether the caller is outside of the lab's network namespace.
    """

    def __init__(self, directory: pathlib.Path, netns: bool = False) -> None:
        self.directory = directory
        self.log = config.LOGS / 'ceph.log'
        self.fsid = str(uuid.uuid4())
        self._netns = netns
        self._conf = directory / 'ceph.conf'
        self._keyring = directory / 'keyring'

    def start(self, size: int) -> None:
        """Start it with an empty pool.

        :param size: bytes of the OSD's file, which take room when written to.
        :raises LabError: a part does not start.
        """
        self.stop()
        util.free_memory_check(MEMORY, 'Ceph')
        for name in ('mon', 'mgr', 'osd'):
            (self.directory / name).mkdir(parents=True, mode=0o700)
        self._conf.write_text(self.client_conf() + _DAEMONS.format(
            directory=self.directory, ip=config.CONTROLLER_IP, size=size))
        self._make_keys()
        monmap = str(self.directory / 'monmap')
        self._run('monmaptool', '--create', '--fsid', self.fsid, '--addv',
                  'lab', _ADDRESS, monmap)
        self._run('ceph-mon', *self._options('lab'), '--mkfs', '--monmap',
                  monmap)
        self._spawn('mon', 'lab')
        util.wait_for('the monitor', self._answers, TIMEOUT, self.log,
                      interval=1)
        self._spawn('mgr', 'lab')
        osd = str(uuid.uuid4())
        self.command('osd', 'new', osd, '0')
        self._run('ceph-osd', *self._options('0'), '--mkfs', '--osd-uuid', osd)
        self._spawn('osd', '0')
        self.command('osd', 'pool', 'create', POOL, str(_PARTS), str(_PARTS))
        self.command('osd', 'pool', 'application', 'enable', POOL, 'rbd')
        util.wait_for('the pool', self._clean, TIMEOUT, self.log, interval=1)

    def stop(self) -> None:
        """End all of it and throw it away."""
        for kind in ('osd', 'mgr', 'mon'):
            util.stop(self._pidfile(kind))
        shutil.rmtree(self.directory, ignore_errors=True)

    def client_conf(self) -> str:
        """What a client has in :data:`CLIENT_CONF`."""
        return _CONF.format(fsid=self.fsid, address=_ADDRESS)

    def client_keyring(self) -> str:
        """What a client has in :data:`CLIENT_KEYRING`; a secret."""
        return self.command('auth', 'get', _CLIENT)

    def images(self) -> list[str]:
        """Names of all images of the pool."""
        found: list[str] = json.loads(self._run(
            'rbd', '--conf', str(self._conf), 'ls', '--pool', POOL,
            '--format', 'json'))
        return found

    def command(self, *argv: str, check: bool = True) -> str:
        """Run Ceph's command as its administrator; returns its output."""
        return self._run('ceph', '--conf', str(self._conf),
                         '--connect-timeout', '10', *argv, check=check)

    def _make_keys(self) -> None:
        self._run('ceph-authtool', '--create-keyring', str(self._keyring))
        for name, caps in _CAPS.items():
            self._run('ceph-authtool', str(self._keyring), '--gen-key',
                      '--name', name, *(
                          word for daemon, allowed in caps.items()
                          for word in ('--cap', daemon, allowed)))

    def _answers(self) -> str:
        self._require('mon')
        return self.command('mon', 'stat', check=False)

    def _clean(self) -> bool:
        """Whether all parts of the pool are there, and counted."""
        self._require('mgr', 'osd')
        counted = json.loads(self.command('status', '--format', 'json'))[
            'pgmap']
        clean = sum(one['count'] for one in counted.get('pgs_by_state', ())
                    if one['state_name'] == 'active+clean')
        return _PARTS <= counted['num_pgs'] == clean

    def _options(self, name: str) -> list[str]:
        return ['--id', name, '--conf', str(self._conf)]

    @staticmethod
    def _pidfile(kind: str) -> pathlib.Path:
        return config.RUN / f'ceph-{kind}.pid'

    def _require(self, *kinds: str) -> None:
        """:raises LabError: one of them has ended."""
        for kind in kinds:
            if not util.running(self._pidfile(kind)):
                raise util.LabError(f'ceph-{kind} has ended', self.log)

    def _spawn(self, kind: str, name: str) -> None:
        util.spawn([f'ceph-{kind}', *self._options(name), '-d'],
                   log=self.log, pidfile=self._pidfile(kind),
                   netns=self._netns)

    def _run(self, *argv: str, check: bool = True) -> str:
        return util.run(argv, netns=self._netns, timeout=TIMEOUT,
                        check=check).stdout
