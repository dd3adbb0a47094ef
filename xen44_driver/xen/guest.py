# SPDX-License-Identifier: Apache-2.0
"""Operations on a domain."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
import contextlib
import enum
import time
from typing import Any
from typing import TypeVar

import libvirt
from lxml import etree
from oslo_log import log as logging

from xen44_driver.xen import errors
from xen44_driver.xen.domain import commandline
from xen44_driver.xen.domain import console
from xen44_driver.xen.domain import metadata
from xen44_driver.xen.domain import xml
from xen44_driver.xen.events import DomainRecord
from xen44_driver.xen.events import DomainState
from xen44_driver.xen.watch import Watch

LOG = logging.getLogger(__name__)
T = TypeVar('T')

# Seconds between two looks into the cache while waiting, and between two
# questions to libvirt, in case an event was lost.
_LOOK_INTERVAL = 0.1
_ASK_INTERVAL = 5.0


class Terminal(enum.Enum):
    """An interactive console of a running guest.

    ``XEN`` is Xen's console, a terminal of dom0; ``SERIAL`` is a serial port
    behind a socket of the guest's QEMU.
    """

    XEN = 'xen'
    SERIAL = 'serial'


class Guest:
    """A domain; created by :class:`xen44_driver.xen.host.Host`.

    An object is cheap and has no state of its own: the state of the domain is
    in the watch's cache, which is up to date when a method returns.

    Every method can raise :class:`DomainNotFound` (the domain is undefined),
    :class:`ConnectionFailed` (libvirt cannot be reached) and
    :class:`OperationFailed` (libvirt or Xen failed).

    :ivar uuid: the domain's UUID.
    :ivar name: the domain's name.
    """

    def __init__(self, watch: Watch, uuid: str, name: str) -> None:
        self.uuid = uuid
        self.name = name
        self._watch = watch

    def __repr__(self) -> str:
        return f'Guest({self.uuid}, {self.name})'

    @property
    def id(self) -> int | None:
        """Xen's number of the domain; None if it is off. From the cache."""
        record = self._watch.get(self.uuid)
        return None if record is None else record.id

    def start(self) -> None:
        """Start the domain; return when its devices exist.

        A managed-save image of the domain is removed first: libvirt would
        resume its memory, in spite of a newer definition.
        """
        with self._watch.operation(self.uuid) as ticket:
            self._forget_memory()
            domain = self._change(
                'domainCreate', lambda domain: domain.createWithFlags(0))
            # The answer contains the new id, so ID() needs no call.
            self._now(DomainState.RUNNING, domain.ID(), ticket)

    def _forget_memory(self) -> None:
        # libvirt's libxl driver does not support VIR_DOMAIN_START_FORCE_BOOT,
        # and removing an image that does not exist fails without a message.
        if self._ask('domainHasManagedSaveImage',
                     lambda domain: domain.hasManagedSaveImage()):
            LOG.warning('Removing saved memory of domain %s (%s)', self.uuid,
                        self.name)
            self._change('domainManagedSaveRemove',
                         lambda domain: domain.managedSaveRemove())

    def resume(self) -> None:
        """Resume the domain after :meth:`suspend`."""
        with self._watch.operation(self.uuid) as ticket:
            domain = self._change('domainResume',
                                  lambda domain: domain.resume())
            self._now(DomainState.RUNNING, self.id or domain.ID(), ticket)

    def suspend(self) -> None:
        """Pause the domain; it keeps its memory."""
        with self._watch.operation(self.uuid) as ticket:
            domain = self._change('domainSuspend',
                                  lambda domain: domain.suspend())
            self._now(DomainState.PAUSED, self.id or domain.ID(), ticket)

    def shutdown(self) -> None:
        """Ask the guest to shut down; do not wait. It may ignore this."""
        self._change('domainShutdown', lambda domain: domain.shutdown())

    def destroy(self) -> None:
        """Stop the domain at once; do nothing if it is off."""
        with self._watch.operation(self.uuid) as ticket:
            try:
                self._change('domainDestroy', lambda domain: domain.destroy())
            except errors.OperationFailed as error:
                # The error is "domain is not running".
                if error.code != libvirt.VIR_ERR_OPERATION_INVALID:
                    raise
            self._now(DomainState.SHUTDOWN, None, ticket)

    def undefine(self) -> None:
        """Remove the definition, and a managed-save image if there is one.

        Do nothing if the domain is undefined. A running domain would continue
        to run; destroy it first.
        """
        with self._watch.operation(self.uuid) as ticket:
            with contextlib.suppress(errors.DomainNotFound):
                self._change(
                    'domainUndefine', lambda domain: domain.undefineFlags(
                        libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE))
            record = self._watch.get(self.uuid)
            runs = record is not None and not record.state.is_off
            self._watch.learn(self.uuid, record if runs else None, ticket)

    def state(self) -> DomainState:
        """Return the domain's state; ask libvirt, not the cache.

        :raises DomainNotFound: the domain does not exist.
        """
        record = self._watch.observe(self.uuid)
        if record is None:
            raise errors.DomainNotFound(self.uuid)
        return record.state

    def metadata(self) -> metadata.InstanceMetadata | None:
        """Return what the domain's definition says of its instance.

        :returns: None if the domain has no metadata of this driver.
        """
        return metadata.from_xml(xml.parse(str(self._ask(
            'domainGetXMLDesc', lambda domain: domain.XMLDesc(
                libvirt.VIR_DOMAIN_XML_INACTIVE)))))

    def terminal(self) -> Terminal | None:
        """Return which interactive console the domain has.

        :returns: None if it is an HVM guest whose serial port has no socket.
        """
        domain = self._xml()
        # A serial port in <devices>, of an older version, has no socket.
        _, serial_socket = console.from_xml(
            domain, commandline.from_xml(domain))
        if serial_socket is not None:
            return Terminal.SERIAL
        return None if xml.text(domain, 'os/type') == 'hvm' else Terminal.XEN

    def vnc_address(self) -> tuple[str, int] | None:
        """Return where the VNC server of the domain's screen listens.

        :returns: an address of this host and the port; None if the domain has
            no screen or is off.
        """
        domain = self._xml()
        graphics = domain.find("devices/graphics[@type='vnc']")
        # A domain without an id is not running.
        if graphics is None or domain.get('id') is None:
            return None
        port = int(graphics.get('port', '-1'))
        if port < 0:
            return None
        # Older versions of the driver let it listen on other addresses.
        listen = graphics.get('listen', '127.0.0.1')
        loopback = {'0.0.0.0': '127.0.0.1', '::': '::1'}  # noqa: S104
        return loopback.get(listen, listen), port

    def _xml(self) -> etree._Element:
        """Return the domain's XML as it is now."""
        return xml.parse(str(self._ask(
            'domainGetXMLDesc', lambda domain: domain.XMLDesc(0))))

    def wait_for(self, states: Collection[DomainState],
                 timeout: float) -> bool:
        """Wait until the domain is in one of several states.

        This looks into the cache, which events fill. Every few seconds and at
        the end it also asks libvirt.

        :param states: the states, such as
            :data:`xen44_driver.xen.events.OFF`.
        :param timeout: time to wait, in seconds.
        :returns: whether the domain reached one of the states in time.
        :raises DomainNotFound: the domain was undefined meanwhile.
        """
        end = time.monotonic() + timeout
        ask_at = time.monotonic() + _ASK_INTERVAL
        while self._known().state not in states:
            now = time.monotonic()
            if now >= end:
                return self.state() in states
            if now >= ask_at:
                self.state()
                ask_at = now + _ASK_INTERVAL
            time.sleep(min(_LOOK_INTERVAL, max(end - now, 0)))
        return True

    def _known(self) -> DomainRecord:
        record = self._watch.get(self.uuid)
        if record is None:
            raise errors.DomainNotFound(self.uuid)
        return record

    def _change(self, operation: str,
                function: Callable[[Any], object]) -> Any:
        """Call a libvirt function that changes the domain; never repeat it.

        :returns: libvirt's ``virDomain``.
        """
        session = self._watch.connection.session()
        domain = session.domain(self.uuid)
        session.call(operation, function, domain, domain=self.uuid)
        return domain

    def _ask(self, operation: str, function: Callable[[Any], T]) -> T:
        """Call a libvirt function that only asks about the domain."""
        return self._watch.connection.twice(lambda session: session.call(
            operation, function, session.domain(self.uuid),
            domain=self.uuid))

    def _now(self, state: DomainState, id_: int | None, ticket: int) -> None:
        if id_ is not None and id_ < 0:
            id_ = None
        self._watch.learn(self.uuid, DomainRecord(
            uuid=self.uuid, name=self.name, state=state, id=id_), ticket)
