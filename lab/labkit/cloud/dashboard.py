# SPDX-License-Identifier: Apache-2.0
"""Horizon, the web page of the lab's cloud. It starts on demand only."""

from __future__ import annotations

import functools
import pathlib

from labkit import cache
from labkit import config
from labkit import release
from labkit import util
from labkit.cloud import install as services_install
from labkit.cloud import services
from labkit.cloud import settings

#: uwsgi takes the types of static files from /etc/mime.types.
DEBIAN_PACKAGES = ('media-types',)

#: The settings, and the key that signs sessions.
DIRECTORY = settings.ETC / 'horizon'

#: In the lab's network.
URL = f'http://{config.CONTROLLER_IP}/'
USER = 'admin'

_MODULE = 'openstack_dashboard.settings'


def venv_path() -> pathlib.Path:
    """Where its venv is, or would be."""
    key = cache.recipe(release.CURRENT.constraints.read_text(),
                       release.CURRENT.dashboard_constraints.read_text(),
                       services_install.python_version(),
                       *release.CURRENT.dashboard_packages)
    return config.CACHE / f'venv-horizon-{key}'


def install() -> tuple[pathlib.Path, pathlib.Path]:
    """Install what is missing.

    :returns: paths of the venv and of the static files.
    :raises util.LabError: apt or pip failed, or Horizon's own commands.
    """
    util.need_packages(*services_install.DEBIAN_PACKAGES, *DEBIAN_PACKAGES)
    venv = venv_path()
    services_install.ensure(
        venv, 'openstack: install Horizon', functools.partial(
            services_install.build, venv, release.CURRENT.dashboard_packages,
            release.CURRENT.constraints,
            release.CURRENT.dashboard_constraints))
    static = cache.directory(
        'horizon-static',
        cache.recipe(venv.name, release.CURRENT.templates / 'horizon'),
        functools.partial(_collect, venv))
    return venv, static


def _collect(venv: pathlib.Path, scratch: pathlib.Path,
             log: pathlib.Path) -> None:
    """Collect the static files, and compress scripts and style sheets."""
    _write_settings(scratch / 'settings', scratch / 'result')
    for command in ('collectstatic', '--no-input'), ('compress', '--force'):
        util.run([venv / 'bin/django-admin', *command, '--verbosity', '0'],
                 env={**services_install.environment(venv),
                      'PYTHONPATH': str(scratch / 'settings'),
                      'DJANGO_SETTINGS_MODULE': _MODULE},
                 timeout=600, log=log)


def _write_settings(directory: pathlib.Path, static: pathlib.Path) -> None:
    """Write the settings; Horizon makes its secret key beside them."""
    for name, text in settings.render('horizon', {
            'ip': config.CONTROLLER_IP,
            'auth_url': settings.ENDPOINTS['identity'],
            'directory': str(directory),
            'static': str(static)}).items():
        settings.write_private(directory / name, text)


def start() -> None:
    """Start it, if it does not run, and wait until it serves.

    :raises util.LabError: it cannot be installed, or does not come up.
    """
    venv, static = install()
    service = services.horizon(venv, static, DIRECTORY)
    if not util.running(service.pidfile):
        _write_settings(DIRECTORY, static)
        service.start(venv)
    service.wait()


def stop() -> None:
    """Stop it, if it runs."""
    util.stop(services.Service(services.HORIZON, ()).pidfile)
