# SPDX-License-Identifier: Apache-2.0
"""``xenlab gate``: tests/gate on the running lab, then Tempest."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import functools
import os
import pathlib
import re
import signal
import subprocess
import threading
import time

from labkit import arch
from labkit import browser
from labkit import ceph
from labkit import compute
from labkit import config
from labkit import gluster
from labkit import guest
from labkit import images
from labkit import installpage
from labkit import nvme
from labkit import stockguest
from labkit import util
from labkit import volumes
from labkit.cloud import Cloud
from labkit.cloud import dashboard
from labkit.cloud import install
from labkit.host import hosts

TESTS = config.CHECKOUT / 'tests' / 'gate'
RESULTS = config.STATE / 'gate'

#: The tests that boot Debian's image, which takes minutes.
DEBIAN = 'tests.gate.test_debian.'
#: Those that boot a Debian as its own tools make it, by its name.
STOCK = {name: f'tests.gate.test_stock_debian.{tests}.' for name, tests in (
    ('bookworm', 'Bookworm'), ('trixie', 'Trixie'),
    ('i386', 'BookwormI386'))}
#: The tests beside which nothing else runs.
ALONE = 'tests.gate.alone.'
#: The tests of the web page, one of which takes the host out of use.
HORIZON = f'{ALONE}test_horizon.'
#: The tests that need volumes, and cinder-volume in dom0 for them.
VOLUMES = 'tests.gate.test_volumes'
#: The ones of them for which dom0 gets a client of Ceph's.
RBD = 'tests.gate.test_volumes_rbd.'
#: The ones of them for which dom0 gets the programs of NVMe-oF.
NVME = 'tests.gate.test_volumes_nvme.'
#: The tests for a lab with an ARM host, and the only ones there.
ARM = 'tests.gate.test_arm.'
#: The ones there whose guest has a 32-bit kernel.
ARM_32 = f'{ARM}Arm32.'
#: The tests for labs with another kind of host, and the only ones there.
KINDS = {kind: f'tests.gate.test_{kind.replace("-", "_")}.'
         for kind in arch.KINDS if kind}
#: The tests that may end the lab's QEMU: OVMF sometimes fails its assertion
#: in tcg_handle_interrupt (QEMU 10.0, software emulation; seen once of three
#: starts, on a busy machine).
UEFI = 'tests.gate.test_uefi.'
#: In the name of each test that needs a browser.
BROWSER = '_in_a_browser'

#: Ends the id of a test that has attributes (tests/gate/base.py).
_ATTRIBUTES = re.compile(r'\[([^][]*)\]$')

#: Where a run's results are: a line for each part, of fields with tabs
#: between them. tests/run shows them.
REPORT = RESULTS / 'report.tsv'

#: Seconds after which a part is ended: its own waits are all shorter. The
#: whole of Tempest takes hours under emulation, and so may what is installed
#: in dom0 on a host of another kind.
LIMIT = 2 * 3600
FULL_LIMIT = 5 * 3600

#: The files in tests/gate that name Tempest's tests.
TEMPEST = 'tempest.txt'
FULL_TEMPEST = 'tempest-full.txt'

#: Debian packages that tests need, such as to make the disks of their guests.
#: Where tests run there are no downloads.
TOOLS = {
    RBD: ceph.PACKAGES,
    'tests.gate.test_volumes_gluster.': gluster.PACKAGES,
    # What the install page has people build Debian packages with.
    f'{KINDS["fresh"]}DebianPackages.': (
        'build-essential', 'debhelper', 'dh-python', 'openstack-pkg-tools',
        'pybuild-plugin-pyproject', 'python3-all', 'python3-pbr',
        'python3-setuptools'),
    'tests.gate.test_loaders.': ('btrfs-progs', 'fdisk', 'xfsprogs'),
    'tests.gate.test_uefi.': (
        'fdisk', 'grub-common', 'grub-efi-amd64-bin', 'mtools'),
}

_COUNT = re.compile(r'^ - (Passed|Skipped|Failed|Unexpected Success): (\d+)')


@dataclasses.dataclass
class Result:
    """How one part went.

    :ivar seconds: it took.
    :ivar log: all that it printed.
    """

    part: str
    log: pathlib.Path
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0

    def row(self) -> str:
        """The part's line in :data:`REPORT`."""
        return '\t'.join((self.part, f'{self.seconds:.0f}',
                          'FAILED' if self.failed else 'passed',
                          str(self.passed), str(self.failed),
                          str(self.log)))

    def read(self, line: str) -> None:
        """Count what one line of stestr's summary says."""
        if match := _COUNT.match(line):
            number = int(match[2])
            match match[1]:
                case 'Passed':
                    self.passed += number
                case 'Skipped':
                    self.skipped += number
                case _:
                    self.failed += number


@contextlib.contextmanager
def _ended(process: subprocess.Popen[str], limit: float) -> Iterator[None]:
    """The process and its children end with the body, or by the limit."""
    def kill() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(limit, kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if process.poll() is None:
            kill()
        process.wait()


def run_part(cloud: Cloud, part: str, argv: Sequence[str],
             directory: pathlib.Path, limit: float = LIMIT) -> Result:
    """Run a part's test runner, show what it prints and count its results.

    :param part: its name, also of its log.
    :param argv: the runner and its arguments.
    :param directory: to run it in.
    :param limit: seconds after which it is killed.
    """
    result = Result(part, config.LOGS / f'gate-{part}.log')
    result.log.parent.mkdir(parents=True, exist_ok=True)
    util.say(f'--- {part}: log {result.log}')
    begin = time.monotonic()
    environment = {
        **os.environ, **install.environment(cloud.venv),
        **cloud.client_environment(), 'PYTHONPATH': str(config.LAB),
        # Results are shown as they come, not by the kilobyte.
        'PYTHONUNBUFFERED': '1'}
    process = subprocess.Popen(
        util.in_netns(argv), cwd=directory, env=environment, text=True,
        errors='replace', stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, start_new_session=True)
    with _ended(process, limit), open(result.log, 'w') as log:
        for line in process.stdout or ():
            print(line, end='', flush=True)
            log.write(line)
            log.flush()
            result.read(line)
    if process.returncode and not result.failed:
        result.failed = 1
    result.seconds = time.monotonic() - begin
    return result


def _stestr(cloud: Cloud, *argv: str) -> list[str]:
    return [f'{cloud.venv}/bin/stestr', '--config', str(TESTS / 'stestr.conf'),
            '--repo-url', str(RESULTS), *argv]


def _names(cloud: Cloud, pattern: str) -> list[str]:
    """Names of the gate's own tests that match."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    environment = {**install.environment(cloud.venv),
                   'PYTHONPATH': str(config.LAB)}

    def stestr(*argv: str) -> subprocess.CompletedProcess[str]:
        return util.run(_stestr(cloud, *argv), cwd=config.CHECKOUT,
                        env=environment, check=False)

    if not (RESULTS / '.stestr').exists():
        stestr('init')
    listed = stestr('list', pattern)
    names = listed.stdout.split()
    if listed.returncode or any('_FailedTest' in name for name in names):
        raise util.LabError('the tests of the gate cannot be loaded: '
                            + (listed.stderr or listed.stdout)[-2000:])
    return names


def has_attribute(name: str, attribute: str) -> bool:
    """Whether a test, by its id, is marked so.

    :param attribute: ``slow`` for ``--full`` alone, ``unhurried`` for what
        ``--hurry`` leaves out.
    """
    found = _ATTRIBUTES.search(name)
    return found is not None and attribute in found[1].split(',')


def _kind_of(name: str) -> str:
    """The kind of host that a test, by its id, is for."""
    return next((kind for kind, tests in KINDS.items()
                 if name.startswith(tests)), '')


def _provide(names: Sequence[str]) -> None:
    """Build and install what tests, by their ids, need of this machine.

    Where they run there are no downloads.
    """
    needs: dict[str, Callable[[], object]] = {
        DEBIAN: guest.debian_guest, KINDS['pci']: guest.debian_guest,
        KINDS['fresh']: installpage.build_requirements,
        RBD: ceph.client, NVME: nvme.tools, HORIZON: dashboard.install,
        ARM_32: lambda: guest.small_guest('armv7l')}
    for stock, tests in STOCK.items():
        needs[tests] = functools.partial(stockguest.stock_guest, stock)
    for tests, build in needs.items():
        if any(name.startswith(tests) for name in names):
            try:
                build()
            except util.LabError as e:
                # Their tests fail by it, the others need not.
                util.say(str(e))
    if any(BROWSER in name for name in names):
        util.need_packages(*browser.PACKAGES)
    for tests, debs in TOOLS.items():
        if any(name.startswith(tests) for name in names):
            util.need_packages(*debs)


def run_gate(cloud: Cloud, pattern: str | None = None, full: bool = False,
             tempest: Callable[[], Result] | None = None,
             hurry: bool = False) -> Iterator[Result]:
    """Run the gate's own tests, part by part.

    :param pattern: regular expression of the tests to run, slow ones too; by
        default all but those, except on hosts of other kinds.
    :param full: by default all.
    :param tempest: runs Tempest, before what may end the lab.
    :param hurry: also without the tests for which a slow machine has no time.
    """
    left_out = () if pattern or full or config.KIND else (
        ('slow', 'unhurried') if hurry else ('slow',))
    names = [name for name in _names(cloud, pattern or '.')
             if name.startswith(ARM) == (config.ARCHITECTURE == 'aarch64')
             and _kind_of(name) == config.KIND]
    if 'unhurried' in left_out:
        util.say('In a hurry, without:')
        for name in names:
            if has_attribute(name, 'unhurried'):
                util.say(f'  {name}')
    names = [name for name in names if not any(
        has_attribute(name, each) for each in left_out)]
    _provide(names)

    # Slow tests one after the other take hours.
    limit = FULL_LIMIT if pattern or full or config.KIND else LIMIT

    def run(part: str, chosen: Sequence[str]) -> Result:
        listed = RESULTS / part
        listed.write_text('\n'.join(chosen) + '\n')
        # One after the other: dom0's Python shares one lock, and libxl gives
        # a device model ten seconds, however busy dom0 is. Two side by side
        # took longer than both in turn (404 and 256 s on a slow machine).
        return run_part(
            cloud, part, _stestr(cloud, 'run', '--serial', '--load-list',
                                 str(listed)), config.CHECKOUT, limit)

    # Of another lab, and then the only ones.
    if config.KIND:
        if names:
            yield run(config.KIND, names)
        return
    if other := [name for name in names if name.startswith(ARM)]:
        yield run('arm-guests', other)
    if beside := [name for name in names if not name.startswith(
            (ALONE, VOLUMES, UEFI, ARM))]:
        yield run('guests', beside)
    if alone := [name for name in names if name.startswith(ALONE)]:
        yield run('alone', alone)
    if with_volumes := [name for name in names if name.startswith(VOLUMES)]:
        with _cinder_volume(cloud):
            yield run('volumes', with_volumes)
    if tempest:
        yield tempest()
    if uefi := [name for name in names if name.startswith(UEFI)]:
        yield run('uefi', uefi)


@contextlib.contextmanager
def _cinder_volume(cloud: Cloud) -> Iterator[None]:
    """Have cinder-volume in dom0, where it takes a third of a CPU."""
    try:
        for host in hosts():
            volumes.start(host, cloud)
        yield
    finally:
        for host in hosts():
            volumes.stop(host)


def run_tempest(cloud: Cloud, ids: dict[str, str],
                pattern: str | None = None, full: bool = False) -> Result:
    """Run Tempest.

    :param ids: of the images, from :func:`images.ensure`.
    :param pattern: regular expression of the tests to run; by default those
        of tests/gate/tempest.txt.
    :param full: by default those of tests/gate/tempest-full.txt.
    """
    # Given their kernel, the servers boot without grub, in half the time.
    workspace = cloud.write_tempest(ids[images.DIRECT],
                                    ids[images.DIRECT_RAW])
    named = TESTS / (FULL_TEMPEST if full else TEMPEST)
    chosen = (['--regex', pattern] if pattern
              else ['--include-list', str(named)])
    return run_part(
        cloud, 'tempest',
        [f'{cloud.venv}/bin/tempest', 'run', '--config-file',
         str(workspace / 'etc' / 'tempest.conf'), '--serial',
         *chosen], workspace, FULL_LIMIT if full else LIMIT)


def report(results: Sequence[Result]) -> int:
    """Print how all of it went, and keep it; returns the exit status."""
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(''.join(f'{one.row()}\n' for one in results))
    print(f'\n{"part":<10} {"passed":>6} {"failed":>6} {"skipped":>7} '
          f'{"seconds":>8}  log')
    for one in results:
        print(f'{one.part:<10} {one.passed:>6} {one.failed:>6} '
              f'{one.skipped:>7} {one.seconds:>8.0f}  {one.log}')
    passed = sum(one.passed for one in results)
    failed = sum(one.failed for one in results)
    print(f'{passed} passed, {failed} failed', flush=True)
    return 0 if passed and not failed else 1


def _prepared(cloud: Cloud) -> dict[str, str]:
    """The lab is up and has the guest's images; returns their ids."""
    util.need_root()
    down = [row.name for row in cloud.status() if row.state != 'up']
    down += [host.name for host in hosts() if not host.running]
    if down:
        raise util.LabError('the lab is down (lab/xenlab up); missing: '
                            + ' '.join(down))
    return images.ensure(cloud)


def _collect_logs() -> None:
    """Keep dom0's logs beside ours; the results count without them too."""
    for host in hosts():
        try:
            compute.collect_logs(host)
        except util.LabError as error:
            util.say(f"{host.name}: dom0's logs were not kept: {error}")


def gate(args: argparse.Namespace) -> int:
    """Run the gate's tests on the running lab, then Tempest."""
    cloud = Cloud()
    # An ARM host cannot boot the image that Tempest's servers have.
    # On hosts of another kind, only that is tried.
    with_tempest = not (args.quick or args.pattern or config.KIND
                        or config.ARCHITECTURE == 'aarch64')
    with util.Lock():
        REPORT.unlink(missing_ok=True)
        ids = _prepared(cloud)
        try:
            results = list(run_gate(
                cloud, args.pattern, args.full,
                functools.partial(run_tempest, cloud, ids, full=args.full)
                if with_tempest else None, args.hurry))
        finally:
            _collect_logs()
    return report(results)


def tempest(args: argparse.Namespace) -> int:
    """Run Tempest alone: the gate's choice of it, or a pattern."""
    cloud = Cloud()
    if config.ARCHITECTURE == 'aarch64':
        raise util.LabError('there is no image for Tempest on ARM')
    with util.Lock():
        ids = _prepared(cloud)
        try:
            results = [run_tempest(cloud, ids, args.pattern, args.full)]
        finally:
            _collect_logs()
    return report(results)


def add_parsers(
    add: Callable[[str, Callable[..., int]], argparse.ArgumentParser],
) -> None:
    """Give the command line ``gate`` and ``tempest``.

    :param add: makes a command of a name and what it calls.
    """
    parser = add('gate', gate)
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument('--quick', action='store_true',
                        help='without Tempest')
    extent.add_argument('--full', action='store_true',
                        help='with the slow tests and all of Tempest that '
                        'can pass, for hours')
    extent.add_argument('--hurry', action='store_true',
                        help='without the tests for which a slow machine has '
                        'no time')
    parser.add_argument('pattern', nargs='?',
                        help="regular expression of the gate's tests to run, "
                        'slow ones too; then without Tempest')
    parser = add('tempest', tempest)
    parser.add_argument('--full', action='store_true',
                        help='all of it that can pass, for hours')
    parser.add_argument('pattern', nargs='?',
                        help='regular expression of the tests to run')
