# SPDX-License-Identifier: Apache-2.0
"""The OpenStack release that the lab installs and configures."""

from __future__ import annotations

import dataclasses
import pathlib

from labkit import config


@dataclasses.dataclass(frozen=True)
class Release:
    """An OpenStack release, as the lab runs it.

    :ivar name: for example '2026.2'.
    :ivar controller_packages: what pip installs for the controller.
    :ivar dashboard_packages: what it installs for the web page.
    """

    name: str
    controller_packages: tuple[str, ...]
    dashboard_packages: tuple[str, ...]

    @property
    def constraints(self) -> pathlib.Path:
        """pip's constraints file: a version of each package."""
        return config.LAB / f'openstack/constraints-{self.name}.txt'

    @property
    def dashboard_constraints(self) -> pathlib.Path:
        """The same for what only the web page needs."""
        return config.LAB / f'openstack/constraints-horizon-{self.name}.txt'

    @property
    def templates(self) -> pathlib.Path:
        """Templates of the services' configuration files."""
        return config.LAB / 'openstack/templates'


#: uwsgi is the only package that is compiled. Horizon's need distutils, which
#: Python 3.12 and later do not have.
CURRENT = Release('2026.2', (
    'keystone', 'openstack-placement', 'glance', 'cinder', 'neutron',
    'nova', 'tempest', 'python-openstackclient', 'PyMySQL', 'pymemcache',
    'python-memcached', 'uwsgi'), ('horizon', 'setuptools', 'uwsgi'))
