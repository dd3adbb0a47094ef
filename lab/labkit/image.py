# SPDX-License-Identifier: Apache-2.0
"""The disk of dom0: built once from Debian packages and PyPI, then cached.

The recipe is ``lab/image``; the cache's entry is named by a hash of it.
``lab/image-debian12`` makes the same of Debian 12, and ``lab/image-fresh`` one
without anything of the driver. The disk of an ARM host is made in
``labkit.image_aarch64``.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import shutil

from labkit import cache
from labkit import config
from labkit import debian
from labkit import release
from labkit import util

RECIPE = config.LAB / 'image'
#: What differs in Debian 12's.
DEBIAN12_RECIPE = config.LAB / 'image-debian12'
#: What differs in one that has nothing of the driver.
FRESH_RECIPE = config.LAB / 'image-fresh'
#: What the driver's package brings for dom0 itself.
PREPARE = tuple(config.CHECKOUT / name
                for name in ('share', 'etc/nova', 'etc/logrotate.d'))
#: What pip is to find in the one that has nothing of the driver.
REQUIREMENTS = config.CHECKOUT / 'requirements.txt'
CONSTRAINTS = release.CURRENT.constraints


@dataclasses.dataclass(frozen=True)
class Image:
    """A built dom0: what QEMU boots, and the key that opens it."""

    directory: pathlib.Path

    @property
    def xen(self) -> pathlib.Path:
        """The hypervisor, unpacked: QEMU takes no gzip."""
        return self.directory / 'xen'

    @property
    def kernel(self) -> pathlib.Path:
        """dom0's Linux."""
        return self.directory / 'vmlinuz'

    @property
    def initrd(self) -> pathlib.Path:
        """dom0's initrd."""
        return self.directory / 'initrd'

    @property
    def base(self) -> pathlib.Path:
        """dom0's root disk (qcow2), never written to again."""
        return self.directory / 'base.qcow2'

    @property
    def ssh_key(self) -> pathlib.Path:
        """The private key that dom0's root accepts."""
        return self.directory / 'ssh_key'

    @property
    def known_hosts(self) -> pathlib.Path:
        """dom0's own ssh key, under the names of all Xen hosts."""
        return self.directory / 'known_hosts'

    @property
    def files(self) -> tuple[pathlib.Path, ...]:
        """All that a lab needs of it."""
        return (self.xen, self.kernel, self.initrd, self.base, self.ssh_key,
                self.known_hosts)


def hosts_file(architecture: str) -> str:
    """dom0's /etc/hosts: the controller, and hosts of its own kind."""
    lines = ['127.0.0.1 localhost', f'{config.CONTROLLER_IP} controller']
    lines += [f'{config.host_ip(number)} {config.host_name(number)}'
              for number in config.host_numbers(architecture)]
    return '\n'.join(lines) + '\n'


def _build_stage(recipe: pathlib.Path, log: pathlib.Path,
                 *args: os.PathLike[str] | str) -> None:
    """Run a stage of a recipe's build where nothing of it can stay behind."""
    util.run(util.contained([recipe / 'build', *args]), log=log, timeout=1200)


def let_us_in(root: pathlib.Path, image: Image, architecture: str) -> None:
    """Give dom0 an ssh key of its own and let the lab's key in."""
    for path in (image.ssh_key, root / 'etc/ssh/ssh_host_ed25519_key'):
        path.unlink(missing_ok=True)
        util.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '',
                  '-C', 'xenlab', '-f', path])
    authorized = root / 'root/.ssh/authorized_keys'
    authorized.parent.mkdir(mode=0o700, exist_ok=True)
    shutil.copyfile(image.ssh_key.with_suffix('.pub'), authorized)
    host_key = root / 'etc/ssh/ssh_host_ed25519_key.pub'
    names = ','.join(config.host_ip(number)
                     for number in config.host_numbers(architecture))
    image.known_hosts.write_text(f'{names} {host_key.read_text()}')
    (root / 'etc/hosts').write_text(hosts_file(architecture))


def _build(recipe: pathlib.Path, release: str, scratch: pathlib.Path,
           log: pathlib.Path) -> None:
    debian.need_tools()
    util.need_packages('e2fsprogs', 'openssh-client', 'qemu-utils')
    root = scratch / 'root'
    image = Image(scratch / 'result')
    image.directory.mkdir(mode=0o700)
    with util.step(f'dom0 image: {release} with Xen'):
        _build_stage(recipe, log, 'debian', root)
    with util.step('dom0 image: OpenStack'):
        _build_stage(recipe, log, 'openstack', root, CONSTRAINTS,
                     config.CACHE / 'pip', config.CHECKOUT)
    with util.step('dom0 image: disk'):
        let_us_in(root, image, 'x86_64')
        _build_stage(recipe, log, 'disk', root, image.directory)


def get() -> Image:
    """The image of Debian 13; built first if the cache has none.

    :raises LabError: the machine lacks something, or a stage failed.
    """
    key = cache.recipe(hosts_file('x86_64'), RECIPE, *PREPARE, CONSTRAINTS)
    return Image(cache.directory(
        'image', key, functools.partial(_build, RECIPE, 'Debian 13')))


def get_debian12() -> Image:
    """The image of Debian 12; built first if the cache has none.

    :raises LabError: as of :func:`get`.
    """
    key = cache.recipe(hosts_file('x86_64'), RECIPE, DEBIAN12_RECIPE,
                       *PREPARE, CONSTRAINTS)
    # One release's do not push the other's out.
    return Image(cache.directory(
        'debian12-image', key,
        functools.partial(_build, DEBIAN12_RECIPE, 'Debian 12')))


def get_fresh() -> Image:
    """The image of Debian 13 without anything of the driver.

    It is built first if the cache has none.

    :raises LabError: as of :func:`get`.
    """
    key = cache.recipe(hosts_file('x86_64'), RECIPE, FRESH_RECIPE,
                       REQUIREMENTS, CONSTRAINTS)
    return Image(cache.directory(
        'fresh-image', key,
        functools.partial(_build, FRESH_RECIPE, 'fresh Debian 13')))
