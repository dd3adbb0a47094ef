# SPDX-License-Identifier: Apache-2.0
"""MariaDB: a fresh data directory with every schema, and the lab's user.

Making the schemas takes a minute, so they are kept in the cache: a data
directory right after the migrations, before any user or secret is in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import concurrent.futures
import ipaddress
import os
import pathlib
import shutil

from labkit import cache
from labkit import config
from labkit import release
from labkit import util
from labkit.cloud import install
from labkit.cloud import settings

PIDFILE = config.RUN / 'mariadb.pid'
LOG = config.LOGS / 'mariadb.log'
#: Where dom0's user may come from: the lab's network, as MariaDB writes it.
_NETWORK = ipaddress.ip_interface(
    f'{config.CONTROLLER_IP}/{config.PREFIX}').network.with_netmask
#: How many saved data directories stay in the cache.
_KEPT = 3
#: Cell URLs are templates: each service fills in its own user and password.
#: Thus the cells are part of the cached schemas.
_CELL0_URL = ('{scheme}://{username}:{password}@{hostname}:{port}/nova_cell0'
              '?{query}')
_CELL_URL = '{scheme}://{username}:{password}@{hostname}:{port}/{path}?{query}'
_CELL_BUS = '{scheme}://{username}:{password}@{hostname}:{port}/{path}'


def query(sql: str) -> None:
    """Run SQL in the running lab's database, as its administrator."""
    _query(config.RUN / 'mariadb.sock', sql)


def _query(socket: pathlib.Path, sql: str) -> None:
    util.run(['mariadb', '--no-defaults', f'--socket={socket}',
              '--user=root'], input=sql)


def _wait(pidfile: pathlib.Path, socket: pathlib.Path,
          log: pathlib.Path) -> None:
    def up() -> bool:
        if not util.running(pidfile):
            raise util.LabError('MariaDB ended', log)
        return util.run(['mariadb-admin', '--no-defaults', '--user=root',
                         f'--socket={socket}', 'ping'],
                        check=False).returncode == 0
    util.wait_for('MariaDB', up, 60, log, interval=0.2)


def start() -> None:
    """Start the lab's MariaDB; :func:`wait` says when it serves."""
    util.spawn(['mariadbd', f'--defaults-file={settings.ETC / "my.cnf"}'],
               log=LOG, pidfile=PIDFILE, netns=True)


def wait() -> None:
    """Wait until MariaDB serves."""
    _wait(PIDFILE, config.RUN / 'mariadb.sock', LOG)


def create_users(passwords: Mapping[str, str]) -> None:
    """Make the users: one that the controller's services share, and dom0's.

    :param passwords: from :func:`settings.load_secrets`.
    """
    dom0 = settings.DOM0_DATABASE
    users = {
        "'xenlab'@'127.0.0.1'": (passwords['database'], settings.DATABASES),
        f"'{dom0}'@'{_NETWORK}'": (passwords[dom0], (dom0,))}
    query(''.join(
        f"CREATE USER {user} IDENTIFIED BY '{password}';\n"
        + ''.join(f'GRANT ALL ON {name}.* TO {user};\n' for name in databases)
        for user, (password, databases) in users.items()))


def restore(venv: pathlib.Path) -> None:
    """Lay the lab's data directory anew: schemas, no data, no user."""
    saved = _saved(venv)
    with util.Lock(saved.with_suffix('.lock'), wait=600):
        if not saved.exists():
            with util.step('openstack: database schemas'):
                _build(venv, saved)
    datadir = settings.LIB / 'mysql'
    shutil.rmtree(datadir, ignore_errors=True)
    settings.private_directory(datadir)
    util.run(['tar', '-C', datadir, '-xf', saved])


def _saved(venv: pathlib.Path) -> pathlib.Path:
    """The cached data directory of this venv's schemas."""
    version = util.run(['mariadbd', '--version']).stdout
    template = release.CURRENT.templates / 'controller/my.cnf'
    key = cache.recipe(venv.name, version, template, pathlib.Path(__file__))
    return config.CACHE / f'schemas-{key}.tar'


def _build(venv: pathlib.Path, saved: pathlib.Path) -> None:
    """Run every service's migrations on an empty MariaDB and keep the result.

    It listens on a socket only, and root needs no password there: so there
    is no secret to keep out of the cache.
    """
    log = config.LOGS / 'schemas.log'
    work = saved.with_name(f'schemas-{os.getpid()}')
    datadir, etc = work / 'mysql', work / 'etc'
    socket = work / 'sock'
    pidfile = config.RUN / 'schemas-mariadb.pid'
    known = {
        **settings.values(venv),
        'datadir': str(datadir), 'database_socket': str(socket),
        'database_url': 'mysql+pymysql://root@localhost:3306',
        'database_query': f'?unix_socket={socket}&charset=utf8mb4',
    }
    try:
        settings.private_directory(datadir)
        for name, text in settings.render('controller', known).items():
            settings.write_private(etc / name, text)
        defaults = f'--defaults-file={etc / "my.cnf"}'
        util.run(['mariadb-install-db', defaults, '--skip-test-db',
                  '--auth-root-authentication-method=socket',
                  '--auth-root-socket-user=root'], log=log)
        util.spawn(['mariadbd', defaults, '--skip-networking'], log=log,
                   pidfile=pidfile)
        _wait(pidfile, socket, log)
        _query(socket, ''.join(
            f'CREATE DATABASE {name} CHARACTER SET utf8mb4;\n'
            for name in settings.DATABASES))
        _migrate(venv, etc)
        util.stop(pidfile, grace=60)
        # Its last words are about a clean end; these it makes anew.
        for leftover in datadir.glob('aria_log*'):
            leftover.unlink()
        partial = work / 'mysql.tar'
        util.run(['tar', '-C', datadir, '-cf', partial, '.'])
        partial.replace(saved)
        _forget_old()
    finally:
        util.stop(pidfile, grace=60)
        shutil.rmtree(work, ignore_errors=True)


def _forget_old() -> None:
    """Keep the newest few of the saved data directories."""
    saved = sorted(config.CACHE.glob('schemas-*.tar'),
                   key=lambda path: path.stat().st_mtime)
    for path in saved[:-_KEPT]:
        path.unlink()


def _migrate(venv: pathlib.Path, etc: pathlib.Path) -> None:
    """Run the migrations, in two lanes of about the same length."""
    def manage(tool: str, conf: str, *command: str) -> Sequence[str]:
        return [f'{venv}/bin/{tool}', '--config-file', f'{etc}/{conf}',
                *command]

    nova = 'nova-manage', 'nova/nova.conf'
    lanes = {
        'nova': [
            manage(*nova, 'api_db', 'sync'),
            manage(*nova, 'cell_v2', 'map_cell0', '--database_connection',
                   _CELL0_URL),
            manage(*nova, 'db', 'sync'),
            manage(*nova, 'cell_v2', 'create_cell', '--name', 'cell1',
                   '--database_connection', _CELL_URL,
                   '--transport-url', _CELL_BUS)],
        'others': [
            manage('neutron-db-manage', 'neutron/neutron.conf', 'upgrade',
                   'heads'),
            manage('keystone-manage', 'keystone/keystone.conf', 'db_sync'),
            manage('glance-manage', 'glance/glance-api.conf', 'db_sync'),
            manage('placement-manage', 'placement/placement.conf', 'db',
                   'sync'),
            manage('cinder-manage', 'cinder/cinder.conf', 'db', 'sync')],
    }
    env = {**install.environment(venv),
           'OS_PLACEMENT_CONFIG_DIR': f'{etc}/placement'}

    def go(lane: str) -> None:
        for command in lanes[lane]:
            util.run(command, env=env, timeout=300,
                     log=config.LOGS / f'schemas-{lane}.log')

    with concurrent.futures.ThreadPoolExecutor() as pool:
        for done in [pool.submit(go, lane) for lane in lanes]:
            done.result()
