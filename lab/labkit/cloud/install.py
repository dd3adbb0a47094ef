# SPDX-License-Identifier: Apache-2.0
"""Bring the software: Debian's servers, and OpenStack from PyPI in a venv."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import functools
import os
import pathlib
import shutil

from labkit import cache
from labkit import config
from labkit import release
from labkit import util

DEBIAN_PACKAGES = (
    'conntrack', 'dnsmasq-base', 'dnsmasq-utils', 'gcc', 'haproxy',
    'iproute2', 'iptables', 'iputils-ping', 'libc6-dev', 'mariadb-server',
    'memcached', 'openssh-client', 'openvswitch-switch', 'procps',
    'python3-dev', 'python3-venv', 'rabbitmq-server', 'util-linux')

def python_version() -> str:
    """Version of Debian's Python, for example '3.11.2'."""
    return util.run([config.PYTHON, '-V']).stdout.split()[1]


def venv_path() -> pathlib.Path:
    """Where the venv of this checkout's constraints is, or would be."""
    key = cache.recipe(release.CURRENT.constraints.read_text(),
                       python_version(),
                       *release.CURRENT.controller_packages)
    return config.CACHE / f'venv-{key}'


def install() -> pathlib.Path:
    """Install what is missing and return the venv's path.

    :raises util.LabError: apt or pip failed.
    """
    util.need_packages(*DEBIAN_PACKAGES)
    venv = venv_path()
    ensure(venv, 'openstack: install the services', functools.partial(
        build, venv, release.CURRENT.controller_packages,
        release.CURRENT.constraints))
    with util.Lock(venv.with_suffix('.lock'), wait=900):
        _novnc()
    return venv


def ensure(venv: pathlib.Path, title: str,
           action: Callable[[], None]) -> None:
    """Make a venv, unless it is there as a whole.

    :param title: of the step, if there is one.
    :param action: makes it, of nothing.
    """
    # Scripts in a venv hold its path, so it is built in place; the stamp,
    # written last, says that it is whole.
    stamp = venv / 'complete'
    with util.Lock(venv.with_suffix('.lock'), wait=900):
        if stamp.exists():
            return
        with util.step(title):
            shutil.rmtree(venv, ignore_errors=True)
            action()
        stamp.touch()


def build(venv: pathlib.Path, packages: Sequence[str],
          *constraints: pathlib.Path) -> None:
    """Make a venv with packages from PyPI.

    :param constraints: pip's files with a version of each package.
    """
    log = config.LOGS / 'openstack-install.log'
    util.run([config.PYTHON, '-m', 'venv', venv], log=log)
    # Compiled below, on all cores.
    util.run([venv / 'bin/pip', 'install', '--quiet', '--no-compile',
              *(word for path in constraints for word in ('-c', path)),
              *packages], timeout=1200, log=log)
    python = venv / 'bin/python'
    # A few packages ship files that do not compile: not our concern.
    util.run([python, '-m', 'compileall', '-q', '-j', str(os.cpu_count()),
              venv / 'lib'], check=False, timeout=600, log=log)


def environment(venv: pathlib.Path) -> dict[str, str]:
    """Variables for whatever runs out of the venv."""
    return {
        'PATH': f'{venv}/bin:{os.environ.get("PATH", os.defpath)}:/usr/sbin',
        'PYTHONWARNINGS': 'ignore',
        # stevedore keeps what it learned of entry points there.
        'XDG_CACHE_HOME': str(venv / 'cache'),
    }


def novnc_path() -> pathlib.Path:
    """Where noVNC's pages are, if they are."""
    return config.CACHE / 'novnc'


def _novnc() -> None:
    """Fetch noVNC's pages: the package's files, without its dependencies.

    The package wants nodejs and more, for a server of its own. Without the
    pages the console proxy still serves websockets, so a failure is only
    told.
    """
    pages = novnc_path()
    if pages.exists():
        return
    log = config.LOGS / 'openstack-install.log'
    work = config.CACHE / f'novnc-{os.getpid()}'
    work.mkdir(parents=True)
    download = ['apt-get', '-q', 'download', 'novnc']
    try:
        if util.run(download, cwd=work, log=log, check=False).returncode:
            util.run(['apt-get', '-q', 'update'], timeout=300, log=log)
            util.run(download, cwd=work, log=log)
        for deb in work.glob('*.deb'):
            util.run(['dpkg-deb', '-x', deb, work / 'root'], log=log)
        (work / 'root/usr/share/novnc').rename(pages)
    except (util.LabError, OSError) as error:
        util.say(f'no pages of noVNC, the proxy works without: {error}')
    finally:
        shutil.rmtree(work)
