# SPDX-License-Identifier: Apache-2.0
"""Our sdist, our wheel and our Debian packages, built from this checkout."""

import atexit
import functools
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

PROJECT = pathlib.Path(__file__).parents[2]

#: What of the checkout may differ from its last commit.
_NAMES = ('devstack', 'etc', 'lab', 'share', 'tests', 'xen44_driver',
          'pyproject.toml', 'requirements.txt', 'setup.cfg', 'setup.py',
          'xen44_driver-nova.pth')


def run(*command, cwd=None, env=None):
    """Run a command; its output is in the error when it fails."""
    done = subprocess.run(
        [str(part) for part in command], check=False, text=True, cwd=cwd,
        env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=600)
    if done.returncode:
        raise AssertionError(f'{command} failed:\n{done.stdout}')
    return done.stdout


@functools.cache
def directory():
    """A directory for what is built, once in a process."""
    path = pathlib.Path(tempfile.mkdtemp(prefix='xen44-packages-'))
    atexit.register(shutil.rmtree, path)
    return path


def copy(name):
    """Copy the checkout: a build leaves files in its tree.

    :returns: the copy, ``name`` in :func:`directory`
    """
    source = directory() / name
    run('git', 'clone', '--quiet', '--no-hardlinks', PROJECT, source)
    for one in _NAMES:
        run('rm', '-r', source / one)
        run('cp', '-r', PROJECT / one, source)
    # pbr asks git which files there are.
    run('git', '-C', source, 'add', '--all')
    return source


@functools.cache
def sdist():
    """Build the sdist."""
    run(sys.executable, '-c',
        f'from pbr import build; build.build_sdist({str(directory())!r})',
        cwd=copy('sdist'))
    (path,) = directory().glob('xen44_driver-*.tar.gz')
    return path


@functools.cache
def wheel():
    """Build the wheel, of the sdist, as pip does for an operator."""
    run(sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps',
        '--wheel-dir', directory(), sdist())
    (path,) = directory().glob('xen44_driver-*.whl')
    return path


@functools.cache
def debian():
    """Build the Debian packages by the manual's command, and unpack them.

    :returns: the directory of what is in them
    """
    # dpkg-buildpackage puts them beside the tree.
    source = copy('debian/source')
    run('sh', '-c', 'cp -r etc/debian . && dpkg-buildpackage -us -uc -b',
        cwd=source, env={
            # Debian's Python, whatever else is in PATH.
            **os.environ, 'PATH': '/usr/sbin:/usr/bin:/sbin:/bin'})
    root = directory() / 'root'
    for path in source.parent.glob('*.deb'):
        run('dpkg-deb', '--extract', path, root)
    return root
