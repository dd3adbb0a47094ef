# SPDX-License-Identifier: Apache-2.0
"""A Debian 13 whose process 1 is systemd, in a container of this machine.

It is made once and kept in the lab's cache. It has no network but its own:
what is to be installed in it is in it, as apt and pip look for it. (Another
disk and more options make another container: tests/stack.py.)
"""

import contextlib
import hashlib
import os
import pathlib
import re
import shlex
import stat
import subprocess
import sys
import time
import tomllib

import fixtures

from labkit import cache
from labkit import config
from labkit import debian
from labkit import util
from tests.functional import packages

#: The user of devstack, who may use sudo, and home.
USER = 'stack'
HOME = 'opt/stack'

_DEVSTACK = packages.PROJECT / 'devstack'

#: On devstack's machines before any plugin, as far as ours has to do with it.
_BASE = ('ca-certificates', 'dbus', 'e2fsprogs', 'gawk', 'git', 'grub2-common',
         'iproute2', 'iptables', 'kmod', 'logrotate', 'lsb-release', 'passwd',
         'procps', 'python3-venv', 'sudo', 'systemd', 'systemd-container',
         'systemd-sysv')

#: As devstack's tools/create-stack-user.sh does; a machine that boots by
#: GRUB, and what that looks for of a Linux; no work of its own in between.
_PREPARE = f'''
useradd --user-group --shell /bin/bash --home-dir /{HOME} --create-home {USER}
chmod 755 /{HOME}
echo '{USER} ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/50_stack_sh
echo devstack > /etc/hostname
echo 127.0.0.1 localhost devstack > /etc/hosts
rm -f /etc/resolv.conf
mkdir -p /boot/grub
touch /boot/vmlinuz-6.12.0 /boot/initrd.img-6.12.0
echo CONFIG_XEN_DOM0=y > /boot/config-6.12.0
systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer
'''
_NO_INDEX = '[global]\nno-index = true\nfind-links = /srv/wheels\n'

#: Starts nspawn, of the container's own Debian: this machine's may be older.
#: systemd takes the second version of cgroups, whichever this machine has.
_START = '''
disk=$1 root=$2 name=$3 group=/sys/fs/cgroup/$3
shift 3
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "$group"
echo $$ > "$group/cgroup.procs"
# GRUB's scripts take loop0 to loop9 for what only Linux sees.
number=10
until losetup "/dev/loop$number" "$disk"; do
    number=$((number + 1))
    [ $number -lt 100 ]
done
mount "/dev/loop$number" "$root"
# When it is mounted no more.
losetup --detach "/dev/loop$number"
rm "$disk"
libraries=$(echo "$root"/usr/lib/*-linux-gnu)
# update-grub asks which device its root is on.
exec "$root"/usr/lib*/ld-linux-*.so.? \\
    --library-path "$libraries:$libraries/systemd" \\
    "$root/usr/bin/systemd-nspawn" --boot --register=no --keep-unit \\
    --private-network --console=read-only --link-journal=no --settings=no \\
    --machine="$name" --directory="$root" --bind="/dev/loop$number" "$@"
'''

#: Removes what that left of cgroups.
_END = '''
mount -t cgroup2 cgroup2 /sys/fs/cgroup
find "/sys/fs/cgroup/$1" -depth -type d -exec rmdir {} +
'''

#: Not of the host as an operator sees it: what runs, logs and caches; what
#: belongs to packages; devstack's own; copies that tools keep of a file.
_PASSING = re.compile(
    r'(dev|proc|run|srv|sys|tmp|opt|usr/(?!local)\w+|var/(cache|log|tmp)'
    r'|var/lib/(apt|dpkg|systemd|private|logrotate)|root/\.cache'
    r'|etc/(group|gshadow|passwd|shadow|subuid|subgid)-'
    r'|etc/\.(pwd\.lock|updated)|var/\.updated|boot/grub/grubenv)(/|$)')


def debs_of_plugin():
    """What devstack installs for the plugin, by the plugin's file."""
    return (_DEVSTACK / 'files/debs/xen44_driver').read_text().split()


def debs_for_lab():
    """What the plugin installs before it starts the lab."""
    text = (_DEVSTACK / 'lib/lab.sh').read_text().replace('\\\n', ' ')
    (names,) = re.findall(r'install_package (.*)', text)
    return names.split()


def _debs_for_xen():
    """What the plugin installs in a dom0."""
    return packages.run(
        'bash', '-c', 'function is_arch { [[ $1 == "$(uname -m)" ]]; }\n'
        'source "$0/lib/values.sh"\nsource "$0/lib/host.sh"\n'
        'xen44_host_packages', _DEVSTACK).split()


def _debs():
    return sorted({*debs_of_plugin(), *debs_for_lab(), *_debs_for_xen()})


def _requirements():
    """What pip needs to install our checkout, and the plugin to run it."""
    with open(packages.PROJECT / 'pyproject.toml', 'rb') as file:
        return [*tomllib.load(file)['build-system']['requires'],
                'qemu.qmp>=0.0.6']


def make_disk(kind, size, commands, finish, debs=(), parts=()):
    """Make the disk of a container, or take it from the cache.

    :param kind: of the cache's entry.
    :param size: of the disk, as truncate(1) takes it.
    :param commands: a shell script for it while it has a network.
    :param finish: called with its tree and a log; puts the rest into it.
    :param debs: more packages than a machine of devstack's has.
    :param parts: what the rest depends on, for the cache's key.
    """
    debian.need_tools()
    util.need_packages('e2fsprogs', 'mount', 'util-linux')
    names = (*_BASE, *debs)
    script = f'{commands}\n{_PREPARE}'

    def build(scratch, log):
        root, disk = scratch / 'root', scratch / 'result/disk.raw'
        # An ordinary Debian, which the container then is, installs what
        # packages recommend.
        debian.packages(
            root, 'apt', names, log, '--skip=cleanup/apt',
            '--customize-hook=rm "$1/etc/apt/apt.conf.d/99mmdebstrap"',
            f'--customize-hook=chroot "$1" sh -ec {shlex.quote(script)}')
        finish(root, log)
        disk.parent.mkdir()
        util.run(['truncate', f'--size={size}', disk])
        util.run(['mke2fs', '-q', '-t', 'ext4', '-d', root, disk],
                 timeout=600, log=log)

    key = cache.recipe(*names, script, size, *parts)
    return cache.directory(kind, key, build) / 'disk.raw'


def _add_wheels(root, log):
    (root / 'etc/pip.conf').write_text(_NO_INDEX)
    util.run([sys.executable, '-m', 'pip', 'download', '--quiet', '--dest',
              root / 'srv/wheels', *_requirements()], timeout=600, log=log)


def _disk():
    # mmdebstrap's configuration is in its environment, too.
    fetch = shlex.join(['apt-get', '--assume-yes', '--download-only',
                        '--option=APT::Install-Recommends=true', 'install',
                        *_debs()])
    return make_disk('container', '6G', fetch, _add_wheels,
                     parts=(*_requirements(), _NO_INDEX))


def _describe(path):
    """What an operator would call the same file."""
    status = path.lstat()
    kind = stat.filemode(status.st_mode), status.st_uid, status.st_gid
    if path.is_symlink():
        return *kind, str(path.readlink())
    if path.is_file():
        return *kind, hashlib.sha256(path.read_bytes()).hexdigest()
    return kind


class Container(fixtures.Fixture):
    """The container, booted; it ends with the test.

    :param disk: another disk than the tests' own.
    :param options: more options of systemd-nspawn(1).
    :ivar root: its files, as this machine sees them.
    :ivar leader: the number of its process 1.
    :ivar log: what its console said.
    """

    def __init__(self, disk=None, options=()):
        super().__init__()
        self._disk = disk
        self._options = options

    def _setUp(self):
        # Not in /tmp, which may be memory.
        config.STATE.mkdir(parents=True, exist_ok=True)
        directory = pathlib.Path(self.useFixture(
            fixtures.TempDir(rootdir=config.STATE)).path)
        self.log = directory / 'console.log'
        disk, mounted = directory / 'disk.raw', directory / 'root'
        mounted.mkdir()
        packages.run('cp', '--sparse=always', self._disk or _disk(), disk)
        self._name = f'xen44-{directory.name}'.replace('_', '-')
        with open(self.log, 'w') as log:
            self._nspawn = subprocess.Popen(
                ['setpriv', '--pdeathsig', 'TERM', 'unshare', '--mount',
                 '--propagation', 'private', 'sh', '-euc', _START, 'sh', disk,
                 mounted, self._name, *self._options],
                stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT)
        self.addCleanup(self._stop)
        self.leader = self._wait(self._find_leader)
        self.root = pathlib.Path(f'/proc/{self.leader}/root')
        self._wait(self._booted)
        # As the machine was installed.
        self.run('update-grub', user='root')

    def _wait(self, question, seconds=300):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._nspawn.poll() is not None:
                break
            if answer := question():
                return answer
            time.sleep(0.5)
        raise AssertionError(
            f'the container does not boot:\n{self.log.read_text()}')

    def _find_leader(self):
        """The process that is number 1 inside."""
        pid = self._nspawn.pid
        children = pathlib.Path(f'/proc/{pid}/task/{pid}/children')
        for child in children.read_text().split():
            with contextlib.suppress(OSError):
                # Of those that nspawn starts before it runs as its init.
                if pathlib.Path(f'/proc/{child}/comm').read_text() == (
                        'systemd\n'):
                    return child
        return None

    def _booted(self):
        return self._inside('systemctl', 'is-system-running').stdout in (
            'running\n', 'degraded\n')

    def _stop(self):
        # nspawn then asks systemd to shut down, and ends it when asked again.
        for limit in (90, 30):
            self._nspawn.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._nspawn.wait(limit)
                break
        else:
            self._nspawn.kill()
            self._nspawn.wait()
        subprocess.run(
            ['unshare', '--mount', '--propagation', 'private', 'sh', '-euc',
             _END, 'sh', self._name], check=False, capture_output=True)

    def _inside(self, *command, timeout=60):
        return subprocess.run(
            self._enter(*command), check=False, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=timeout)

    def _enter(self, *command):
        return ['nsenter', '--target', self.leader, '--mount', '--uts',
                '--ipc', '--net', '--pid', '--', *command]

    def service(self, *command, user=USER, **env):
        """The command here that runs one inside, as a service of its systemd.

        What that starts in the background runs on, as in a user's session.
        """
        return self._enter(
            'systemd-run', '--quiet', '--pipe', '--wait', '--collect',
            '--expand-environment=no', f'--uid={user}',
            '--property=WorkingDirectory=~', '--property=KillMode=process',
            *(f'--setenv={name}={value}' for name, value in env.items()),
            *command)

    def call(self, *command, user=USER, timeout=1800, **env):
        """Run a command inside.

        :returns: what it said, and its exit status.
        """
        done = subprocess.run(
            self.service(*command, user=user, **env), check=False, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=timeout)
        return done.stdout, done.returncode

    def run(self, *command, **options):
        """Run a command inside that ends well; returns what it said."""
        said, status = self.call(*command, **options)
        if status:
            raise AssertionError(f'{command}: exit {status}:\n{said}')
        return said

    def install(self, *debs):
        """Install packages, as an operator does."""
        self.run('apt-get', '--assume-yes', 'install', *debs, user='root',
                 DEBIAN_FRONTEND='noninteractive')

    def write(self, name, text):
        """Write a file of its user's."""
        path = self.root / HOME / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self.run('chown', '-R', f'{USER}:', f'/{HOME}', user='root')

    def read(self, name):
        return (self.root / name).read_text()

    def files(self):
        """Describe every file that an operator would miss, or wonder at."""
        found = {}
        for directory, subdirectories, names in os.walk(self.root):
            place = pathlib.Path(directory).relative_to(self.root)
            subdirectories[:] = [
                name for name in subdirectories
                if not _PASSING.match(str(place / name))]
            for name in (*subdirectories, *names):
                path = str(place / name)
                if not _PASSING.match(path):
                    found[path] = _describe(self.root / path)
        return found

    def units(self):
        """Units that systemd starts, and those that run."""
        return (set(self.run('systemctl', 'list-unit-files', '--no-legend',
                             '--state=enabled,disabled,masked').splitlines()),
                {line.split()[0] for line in self.run(
                    'systemctl', 'list-units', '--no-legend', '--plain',
                    '--state=active,failed', '--type=service,socket,timer',
                ).splitlines() if not line.startswith('run-')})

    def debs(self):
        """Names of the installed packages."""
        return set(self.run('dpkg-query', '--show',
                            '--showformat=${Package}\n').split())

    def state(self):
        """All that an operator calls the state of a host, but packages."""
        return {'files': self.files(), 'units': self.units(),
                'rules': self.run('iptables', '-S', user='root'),
                'links': self.run('ip', '-brief', 'link')}
