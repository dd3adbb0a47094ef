# SPDX-License-Identifier: Apache-2.0
"""The disk of dom0: built once from Debian packages and PyPI, then cached.

The recipe is ``lab/image``; the cache's entry is named by a hash of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import shutil

from labkit import config
from labkit import debian
from labkit import util

RECIPE = config.LAB / 'image'
CONSTRAINTS = config.LAB / 'openstack' / 'constraints-2026.2.txt'
#: dom0 knows the names of so many Xen hosts.
HOSTS = 4
#: The cache keeps so many images, the last used ones.
KEPT = 3


@dataclasses.dataclass(frozen=True)
class Image:
    """A built dom0: what QEMU boots, and the key that opens it."""

    directory: pathlib.Path

    @property
    def xen(self) -> pathlib.Path:
        """The hypervisor, unpacked: QEMU's multiboot takes no gzip."""
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


def _hosts_file() -> str:
    lines = ['127.0.0.1 localhost', f'{config.CONTROLLER_IP} controller']
    lines += [f'{config.host_ip(number)} {config.host_name(number)}'
              for number in range(1, HOSTS + 1)]
    return '\n'.join(lines) + '\n'


def recipe_hash() -> str:
    """Name of what the recipe makes: changes with any of its inputs."""
    digest = hashlib.sha256(_hosts_file().encode())
    files = [path for path in RECIPE.rglob('*') if path.is_file()]
    for path in sorted([*files, CONSTRAINTS]):
        digest.update(f'{path.relative_to(config.LAB)}\0'.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _build_stage(log: pathlib.Path, *args: os.PathLike[str] | str) -> None:
    """Run a stage of lab/image/build where nothing of it can stay behind.

    Its mounts and processes live in namespaces that die with it.
    """
    util.run(['unshare', '--mount', '--pid', '--fork', '--kill-child',
              '--mount-proc', RECIPE / 'build', *args],
             log=log, timeout=1200)


def _let_us_in(root: pathlib.Path, image: Image) -> None:
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
                     for number in range(1, HOSTS + 1))
    image.known_hosts.write_text(f'{names} {host_key.read_text()}')
    (root / 'etc/hosts').write_text(_hosts_file())


def _build(image: Image) -> None:
    log = config.LOGS / 'image.log'
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    root = image.directory / 'root'
    with util.step('dom0 image: Debian 13 with Xen'):
        _build_stage(log, 'debian', root)
    with util.step('dom0 image: nova and neutron'):
        _build_stage(log, 'openstack', root, CONSTRAINTS,
                     config.CACHE / 'pip')
    with util.step('dom0 image: disk'):
        _let_us_in(root, image)
        _build_stage(log, 'disk', root, image.directory)
    shutil.rmtree(root)


def get() -> Image:
    """The image of this recipe; built first if the cache has none.

    :raises LabError: the machine lacks something, or a stage failed.
    """
    image = Image(config.CACHE / f'image-{recipe_hash()}')
    util.need_root()
    if image.directory.exists():
        os.utime(image.directory)
        return image
    debian.need_tools()
    util.need_packages('e2fsprogs', 'openssh-client', 'qemu-utils')
    with util.Lock(config.CACHE / 'image.lock', wait=1800):
        if image.directory.exists():
            return image
        partial = Image(image.directory.with_suffix('.partial'))
        shutil.rmtree(partial.directory, ignore_errors=True)
        partial.directory.mkdir(parents=True, mode=0o700)
        _build(partial)
        partial.directory.rename(image.directory)
        _forget_old()
    return image


def _forget_old() -> None:
    """Delete the images used longest ago. A lab keeps what it runs on."""
    images = config.CACHE.glob('image-' + '?' * 12)
    by_age = sorted(images, key=lambda path: path.stat().st_mtime)
    for path in by_age[:-KEPT]:
        shutil.rmtree(path)
