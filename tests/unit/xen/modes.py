# SPDX-License-Identifier: Apache-2.0
"""Run by test_threads in a process of its own, for one kind of threads.

``python tests/unit/xen/modes.py native|eventlet`` fails loudly or prints OK.
"""

# ruff: noqa: E402, PLC0415
import sys

MODE = sys.argv[1]
if MODE == 'eventlet':
    import eventlet
    eventlet.monkey_patch()

import logging
import queue
import time

import libvirt

from xen44_driver.xen import errors
from xen44_driver.xen import threads
from xen44_driver.xen.domain.metadata import NAMESPACE
from xen44_driver.xen.host import DomainState
from xen44_driver.xen.host import EventKind
from xen44_driver.xen.host import Host


def _native_ident() -> int:
    return threads._original('threading').get_ident()


MAIN = _native_ident()


class Ticks:
    """Counts how often other ordinary threads get their turn."""

    def __enter__(self) -> 'Ticks':
        self.count, self._on = 0, True
        self._thread = threads.start(self._run, 'ticks')
        return self

    def _run(self) -> None:
        while self._on:
            self.count += 1
            time.sleep(0.01)

    def __exit__(self, *_error: object) -> None:
        self._on = False
        self._thread.join(5)


def test_kind_of_threads() -> None:
    assert threads.green() is (MODE == 'eventlet')
    ordinary: queue.Queue[int] = queue.Queue()
    threads.start(lambda: ordinary.put(_native_ident()), 'ordinary')
    assert (ordinary.get(timeout=5) == MAIN) is (MODE == 'eventlet')
    mailbox: threads.Mailbox[int] = threads.Mailbox()
    threads.start_native(lambda: mailbox.put(_native_ident()), 'native')
    assert mailbox.get(5) not in (None, MAIN)


def test_a_blocking_call_stops_nobody() -> None:
    with Ticks() as ticks:
        threads.run(threads._original('time').sleep, 0.3)
    assert ticks.count > 5, ticks.count
    try:
        threads.run(int, 'x')
    except ValueError:
        return
    raise AssertionError('the exception got lost')


def test_a_native_thread_sleeps() -> None:
    slept: threads.Mailbox[float] = threads.Mailbox()

    def sleep() -> None:
        begin = time.monotonic()
        threads.sleep_native(0.2)
        slept.put(time.monotonic() - begin)

    threads.start_native(sleep, 'sleep')
    seconds = slept.get(5)
    assert seconds is not None and 0.2 <= seconds < 2, seconds


def test_a_mailbox_from_native_threads() -> None:
    mailbox: threads.Mailbox[int] = threads.Mailbox()

    def post() -> None:
        for number in range(1000):
            mailbox.put(number)
        threads.sleep_native(0.2)
        mailbox.put(1000)

    with Ticks() as ticks:
        threads.start_native(post, 'post')
        assert [mailbox.get(5) for _number in range(1001)] == [*range(1001)]
        begin = time.monotonic()
        assert mailbox.get(0.2) is None
        assert 0.15 < time.monotonic() - begin < 2
        assert mailbox.get(0) is None
    assert ticks.count > 5, ticks.count


def test_a_flood_does_not_block_who_posts() -> None:
    # More than a pipe holds, with nobody reading.
    mailbox: threads.Mailbox[int] = threads.Mailbox()
    for number in range(200_000):
        mailbox.put(number)
    assert mailbox.get(0) == 0


def test_a_host_of_the_real_libvirt() -> None:
    """libvirt's own driver for tests, with its real event loop."""
    told: queue.Queue[tuple[EventKind, int]] = queue.Queue()
    # The domain that this driver has becomes one of ours.
    raw = libvirt.open('test:///default')
    raw.lookupByName('test').setMetadata(
        libvirt.VIR_DOMAIN_METADATA_ELEMENT, '<instance/>', 'xen44',
        NAMESPACE, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    host = Host('test:///default', event_callback=lambda event: told.put(
        (event.kind, _native_ident())))
    host.connect()
    [uuid] = host.records()
    guest = host.guest(uuid)
    with Ticks() as ticks:
        guest.suspend()
        assert host.record(uuid).state is DomainState.PAUSED
        kind, thread = told.get(timeout=5)
        assert kind is EventKind.PAUSED
        # Where Nova's code may run.
        assert (thread == MAIN) is (MODE == 'eventlet')
        assert not guest.wait_for({DomainState.RUNNING}, 0.2)
        guest.resume()
        assert told.get(timeout=5)[0] is EventKind.RESUMED
    assert ticks.count > 5, ticks.count
    guest.destroy()
    assert told.get(timeout=5)[0] is EventKind.STOPPED
    assert guest.state() is DomainState.SHUTDOWN
    try:
        host.check()
    except errors.HostUnsupported as error:
        assert 'TEST' in str(error), error
    else:
        raise AssertionError('a host without Xen was taken')
    host.close()


def main() -> None:
    logging.basicConfig(level=logging.DEBUG)
    # Whatever hangs ends here, and says where.
    import faulthandler
    faulthandler.dump_traceback_later(20, exit=True)
    for name, test in list(globals().items()):
        if name.startswith('test_'):
            test()
    print('OK')


if __name__ == '__main__':
    main()
