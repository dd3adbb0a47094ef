# SPDX-License-Identifier: Apache-2.0
"""The disk of an ARM host's dom0, made on this machine without emulation.

The maintainer scripts of Debian's packages would need an emulated CPU for
most of an hour. So packages are only unpacked, and what a dom0 needs of those
scripts is done from outside: users, units, settings, the initrd, compiled
Python. dpkg's own records stay empty: nothing can be installed there later.

It shares ``lab/image`` with x86: packages, files, masked units. What differs
is here and in ``lab/image-aarch64``.
"""

from __future__ import annotations

from collections.abc import Iterator
import os
import pathlib
import shutil

from labkit import cache
from labkit import config
from labkit import debian
from labkit import dom0venv
from labkit import image
from labkit import initrd
from labkit import qemu
from labkit import util

ARCHITECTURE = 'aarch64'
RECIPE = config.LAB / 'image-aarch64'
SHARED = tuple(image.RECIPE / name
               for name in ('packages', 'masked-units', 'rootfs'))

#: Packages of x86's dom0 that ARM has not, or this one does without:
#: cinder-volume runs on an x86 host.
_ABSENT = ('grub-xen-host', 'nfs-kernel-server', 'ovmf', 'qemu-system-xen')
#: Files of x86's dom0 for those.
_IGNORED = ('cinder*', 'exports.d', 'initramfs-tools', 'modules-load.d',
            'nfs.conf.d', 'volumes', 'xenlab-volumes.service')
#: Not unpacked: nobody reads them there, or runs them.
_EXCLUDED = ('share/doc/*', 'share/man/*', 'share/locale/*',
             'bin/qemu-system-*')
#: Not by udev: it comes to them late on a busy machine.
_DRIVERS = ('virtio_mmio', 'virtio_blk', 'virtio_net', 'virtio_rng', 'ext4')
_ENABLED = ('systemd-networkd', 'systemd-network-generator', 'ssh',
            'libvirtd', 'openvswitch-switch', 'xenlab-bridges')
#: By what is started as packages' scripts would have it.
_RUNLEVELS = {'S': '2345', 'K': '016'}
#: What the packages' scripts copy from below usr, and what they link.
_COPIED = {
    'share/openssh/sshd_config': 'etc/ssh/sshd_config',
    'share/libc-bin/nsswitch.conf': 'etc/nsswitch.conf',
    'share/base-files/profile': 'etc/profile',
}
_LINKED = {
    'usr/bin/awk': 'mawk',
    'usr/sbin/ovs-vswitchd': '../lib/openvswitch-switch/ovs-vswitchd',
    'var/lock': '../run/lock',
    'var/run': '../run',
    **{f'usr/sbin/{name}{verb}': f'{name}-nft{verb}'
       for name in ('iptables', 'ip6tables', 'ebtables')
       for verb in ('', '-save', '-restore')},
}
#: Debian's programs for this machine, to work on dom0 with.
_TOOLS = (*initrd.TOOLS, 'coreutils', 'dash', 'grep',
          'init-system-helpers', 'libc-bin', 'passwd', 'perl-base', 'python3',
          'sed', 'sudo', 'systemd', 'util-linux')

#: What of OpenStack dom0 runs, and what its driver needs.
#: pip reads markers (``python_version >= "3.13"``) as of the Python that runs
#: it, and so leaves legacy-cgi out.
_PYTHON_PACKAGES = ('nova', 'neutron', 'qemu.qmp', 'legacy-cgi')
#: These come as source only; without a compiler they are Python alone.
_SOURCE_PACKAGES = ('ovs',)
#: Wheels that Debian 13's Python takes on ARM.
_PLATFORMS = tuple(f'manylinux_2_{minor}_aarch64' for minor in (34, 28, 17))
_PYTHON = '3.13'

_DISK_SIZE = '12G'


def _words(path: pathlib.Path) -> Iterator[str]:
    """The words of a file of lab/image, without comments."""
    for line in path.read_text().splitlines():
        yield from line.partition('#')[0].split()


def _packages() -> list[str]:
    """Debian's packages of dom0."""
    names = [name.replace('amd64', 'arm64')
             for name in _words(image.RECIPE / 'packages')
             if name not in _ABSENT]
    return ['mawk', *initrd.CONTENT, *names]


def _unpack(tools: debian.Tree) -> debian.Tree:
    """Debian's packages of dom0, and the lab's own files."""
    tree = debian.Tree(
        tools.work / 'root', _packages(), tools.log, '--architectures=arm64',
        '--include=?essential',
        *(f'--dpkgopt=path-exclude=/usr/{name}' for name in _EXCLUDED),
        emulator=qemu.AARCH64_USER.path())
    root = tree.path
    for source in (image.RECIPE / 'rootfs', RECIPE / 'rootfs'):
        shutil.copytree(source, root, dirs_exist_ok=True, symlinks=True,
                        ignore=shutil.ignore_patterns(*_IGNORED))
    return tree


def _configure(tools: debian.Tree, tree: debian.Tree) -> None:
    """What the packages' scripts would do, as far as dom0 needs it."""
    root = tree.path
    for source, target in _COPIED.items():
        shutil.copyfile(root / 'usr' / source, root / target)
    for link, destination in _LINKED.items():
        path = root / link
        # Some are directories in a package, and its script replaces them.
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        path.unlink(missing_ok=True)
        path.symlink_to(destination)
    for letter, levels in _RUNLEVELS.items():
        for level in levels:
            (root / f'etc/rc{level}.d/{letter}01xen').symlink_to(
                '../init.d/xen')
    tools.run('systemd-sysusers', f'--root={tools.inside(root)}')
    shadow = root / 'etc/shadow'
    # Without PAM sshd lets nobody in whose password is locked.
    shadow.write_text(shadow.read_text().replace(
        'root:!unprovisioned:', 'root:*:'))
    tree.run('/usr/sbin/ldconfig')
    # The scripts of SysV are not for directories.
    systemctl = ('env', 'SYSTEMCTL_SKIP_SYSV=1', 'systemctl',
                 f'--root={tools.inside(root)}')
    tools.run(*systemctl, 'mask', *_words(image.RECIPE / 'masked-units'))
    tools.run(*systemctl, 'enable', *_ENABLED)
    # virtlogd keeps its socket; Xen's guests do not log through it.
    tools.run(*systemctl, 'disable', 'virtlogd.service')

    (root / 'etc/hostname').unlink(missing_ok=True)
    (root / 'etc/resolv.conf').write_text('')
    # It must only look initialised: each boot names its own.
    (root / 'etc/machine-id').write_text('0123456789abcdef' * 2 + '\n')
    for name in ('neutron/plugins/ml2', 'openvswitch'):
        (root / 'etc' / name).mkdir(parents=True, exist_ok=True)
    for name in ('neutron', 'openvswitch'):
        for parent in ('lib', 'log'):
            (root / 'var' / parent / name).mkdir(parents=True, exist_ok=True)
    for name in ('dev', 'mnt', 'proc', 'root', 'run', 'srv', 'sys', 'tmp',
                 'var/tmp'):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ('tmp', 'var/tmp'):
        (root / name).chmod(0o1777)
    (root / 'root').chmod(0o700)


def _install_openstack(tools: debian.Tree, root: pathlib.Path,
                       log: pathlib.Path) -> None:
    """nova and neutron in their virtual environment, for ARM's Python."""
    pip_venv, wheels = tools.work / 'pip', tools.work / 'wheels'
    target = tools.work / 'site'
    util.run([config.PYTHON, '-m', 'venv', pip_venv], log=log)
    env = {'PIP_CACHE_DIR': str(config.CACHE / 'pip')}
    pip = (pip_venv / 'bin/pip', '--quiet', '--no-input')
    constraints = ('--constraint', image.CONSTRAINTS)
    util.run([*pip, 'wheel', '--no-deps', *constraints, '--wheel-dir', wheels,
              *_SOURCE_PACKAGES], env={**env, 'CC': 'false'}, log=log,
             timeout=300)
    util.run([*pip, 'install', '--target', target, '--no-compile',
              '--find-links', wheels, '--only-binary=:all:',
              f'--python-version={_PYTHON}',
              *(f'--platform={platform}' for platform in _PLATFORMS),
              *constraints, *_PYTHON_PACKAGES], env=env, log=log,
             timeout=1200)
    dom0venv.adopt_scripts(target / 'bin')

    venv = root / dom0venv.VENV.lstrip('/')
    venv.mkdir(parents=True)
    for name in dom0venv.DATA:
        if (target / name).exists():
            (target / name).rename(venv / name)
    packages = root / dom0venv.SITE_PACKAGES.lstrip('/')
    packages.parent.mkdir(parents=True)
    target.rename(packages)
    packages.chmod(0o755)
    for name in ('python', 'python3'):
        (venv / 'bin' / name).symlink_to('/usr/bin/python3')
    (venv / 'pyvenv.cfg').write_text(
        f'home = /usr/bin\ninclude-system-site-packages = true\n'
        f'version = {_PYTHON}\n')
    # What the driver's package brings for dom0; the driver comes later.
    for source in image.PREPARE:
        place = 'share' if source.name == 'share' else f'etc/{source.name}'
        shutil.copytree(source, venv / place, dirs_exist_ok=True)


def _compile(tools: debian.Tree, root: pathlib.Path) -> None:
    """Compile dom0's Python code; its bytes are those of any architecture."""
    inside = tools.inside(root)
    # A few packages ship files that do not compile: not our concern.
    tools.run('sh', '-c', 'python3 -m compileall -q -j "$(nproc)" -s "$@" '
              '> /dev/null || :', 'compile', inside, '-p', '/',
              *(f'{inside}/{name}' for name in (
                  f'usr/lib/python{_PYTHON}', 'usr/lib/python3/dist-packages',
                  dom0venv.SITE_PACKAGES.lstrip('/'))), timeout=900)


def _disk(tools: debian.Tree, root: pathlib.Path, built: image.Image,
          log: pathlib.Path) -> None:
    """What QEMU boots."""
    drivers = initrd.modules(tools, root, _DRIVERS)
    shutil.copyfile(initrd.build(tools, root, drivers), built.initrd)
    for pattern, target in (('xen-*-arm64', built.xen),
                            ('vmlinuz-*', built.kernel)):
        source, = (root / 'boot').glob(pattern)
        shutil.copyfile(source, target)
    raw = tools.work / 'disk.raw'
    util.run(['mkfs.ext4', '-q', '-F', '-L', 'dom0', '-m', '0', '-N',
              '262144', '-E', 'lazy_itable_init=0', '-d', root, raw,
              _DISK_SIZE], log=log, timeout=600)
    util.run(['qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', raw,
              built.base], log=log, timeout=600)


def _build(scratch: pathlib.Path, log: pathlib.Path) -> None:
    debian.need_tools()
    util.need_packages('e2fsprogs', 'openssh-client', 'python3-venv',
                       'qemu-utils')
    built = image.Image(scratch / 'result')
    built.directory.mkdir(mode=0o700)
    with util.step('ARM dom0 image: Debian 13 with Xen'):
        tools = debian.Tree(scratch / 'tools', _TOOLS, log)
        tree = _unpack(tools)
        _configure(tools, tree)
        # It is of no use to dom0.
        shutil.rmtree(tree.work)
    root = tree.path
    with util.step('ARM dom0 image: OpenStack'):
        _install_openstack(tools, root, log)
        _compile(tools, root)
        util.run(util.contained([RECIPE / 'prepare', tools.path, root]),
                 log=log)
    with util.step('ARM dom0 image: disk'):
        image.let_us_in(root, built, ARCHITECTURE)
        for name in ('etc', 'var'):
            (root / name / '.updated').touch()
        _disk(tools, root, built, log)


def get() -> image.Image:
    """The image of this recipe; built first if the cache has none.

    :raises LabError: the machine lacks something, or a step failed.
    """
    code = (pathlib.Path(module.__file__ or os.devnull)
            for module in (debian, dom0venv, initrd))
    key = cache.recipe(
        image.hosts_file(ARCHITECTURE), RECIPE, *SHARED, initrd.SCRIPT,
        *image.PREPARE, image.CONSTRAINTS, pathlib.Path(__file__), *code)
    return image.Image(cache.directory('aarch64-image', key, _build))
