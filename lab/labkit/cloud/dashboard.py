# SPDX-License-Identifier: Apache-2.0
"""Horizon, the web page of the lab's cloud. It starts on demand only."""

from __future__ import annotations

import pathlib
import tempfile

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


def venv_path() -> pathlib.Path:
    """Where its venv is, or would be; its static files are in it."""
    key = cache.recipe(release.CURRENT.constraints.read_text(),
                       release.CURRENT.dashboard_constraints.read_text(),
                       services_install.python_version(),
                       release.CURRENT.templates / 'horizon',
                       *release.CURRENT.dashboard_packages)
    return config.CACHE / f'venv-horizon-{key}'


def install() -> pathlib.Path:
    """Install what is missing and return the venv's path.

    :raises util.LabError: apt or pip failed, or Horizon's own commands.
    """
    util.need_packages(*services_install.DEBIAN_PACKAGES, *DEBIAN_PACKAGES)
    venv = venv_path()
    services_install.ensure(venv, 'openstack: install Horizon',
                            lambda: _build(venv))
    return venv


def _build(venv: pathlib.Path) -> None:
    services_install.build(venv, release.CURRENT.dashboard_packages,
                           release.CURRENT.constraints,
                           release.CURRENT.dashboard_constraints)
    # With a key that is thrown away: all labs share the venv.
    with tempfile.TemporaryDirectory() as directory:
        _write_settings(venv, pathlib.Path(directory))
        for command in (('collectstatic', '--no-input', '--verbosity', '0'),
                        ('compress', '--force', '--verbosity', '0')):
            util.run([venv / 'bin/django-admin', *command], env={
                **services_install.environment(venv),
                'PYTHONPATH': directory,
                'DJANGO_SETTINGS_MODULE': 'openstack_dashboard.settings',
            }, timeout=600, log=config.LOGS / 'openstack-install.log')


def _write_settings(venv: pathlib.Path, directory: pathlib.Path) -> None:
    """Write the settings; they hold no secret but make one beside them."""
    for name, text in settings.render('horizon', {
            'ip': config.CONTROLLER_IP,
            'auth_url': settings.ENDPOINTS['identity'],
            'directory': str(directory),
            'venv': str(venv)}).items():
        settings.write_private(directory / name, text)


def _service(venv: pathlib.Path) -> services.Service:
    return services.horizon(venv, DIRECTORY)


def start() -> None:
    """Start it, if it does not run, and wait until it serves.

    :raises util.LabError: it cannot be installed, or does not come up.
    """
    venv = install()
    service = _service(venv)
    if not util.running(service.pidfile):
        _write_settings(venv, DIRECTORY)
        service.start(venv)
    service.wait()


def stop() -> None:
    """Stop it, if it runs."""
    util.stop(_service(venv_path()).pidfile)
