# SPDX-License-Identifier: Apache-2.0
"""A Xen host, its domains and their events: the interface of this package."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import contextlib

import libvirt

from xen44_driver.xen import capabilities
from xen44_driver.xen import errors
from xen44_driver.xen import inventory
from xen44_driver.xen.domain import metadata
from xen44_driver.xen.domain import xml
from xen44_driver.xen.events import DomainEvent
from xen44_driver.xen.events import DomainRecord
from xen44_driver.xen.events import DomainState
from xen44_driver.xen.events import EventKind
from xen44_driver.xen.facts import MIN_LIBVIRT
from xen44_driver.xen.facts import MIN_XEN
from xen44_driver.xen.facts import Facts
from xen44_driver.xen.facts import HostMemory
from xen44_driver.xen.facts import HostVersions
from xen44_driver.xen.guest import Guest
from xen44_driver.xen.watch import Watch

__all__ = [
    'MIN_LIBVIRT', 'MIN_XEN', 'DomainEvent', 'DomainRecord', 'DomainState',
    'EventKind', 'Host', 'HostMemory', 'HostVersions',
]


class Host:
    """A Xen host.

    The states of all domains are kept in a cache. It is filled when the
    connection is opened, kept current by libvirt's events, and filled again
    when libvirtd is back. Reading it needs no libvirt call. While libvirt
    cannot be reached, methods that need it fail at once.

    The callbacks are called one at a time in a separate thread, which is green
    under eventlet and native otherwise. They may block.

    "This driver's domains" are those with its metadata of one owner, Nova or
    CloudStack.

    :param uri: libvirt's URI of the host, such as ``xen:///system``.
    :param event_callback: receives each event of this driver's domains that is
        still true.
    :param connection_callback: called when the connection is lost (False and
        the reason) and when it is back (True and ''). Not called for the first
        connection.
    :param owner: whose domains this is about.
    """

    def __init__(
        self, uri: str, *,
        event_callback: Callable[[DomainEvent], None] | None = None,
        connection_callback: Callable[[bool, str], None] | None = None,
        owner: metadata.Owner = metadata.Owner.NOVA,
    ) -> None:
        self.uri = uri
        self._owner = owner
        self._watch = Watch(uri, event_callback=event_callback,
                            connection_callback=connection_callback,
                            owner=owner)
        self._facts = Facts(self._watch.connection)

    # The connection

    def connect(self) -> None:
        """Open the connection and ask for the states of all domains.

        From now on, the connection is opened again whenever it breaks.

        :raises ConnectionFailed: libvirt cannot be reached now.
        """
        self._watch.start()

    def close(self) -> None:
        """Close the connection for good; call no callback any more."""
        self._watch.close()

    # The host

    def versions(self) -> HostVersions:
        """Return the versions of libvirt and Xen."""
        return self._facts.versions()

    def check(self, min_libvirt: tuple[int, ...] = MIN_LIBVIRT,
              min_xen: tuple[int, ...] = MIN_XEN) -> None:
        """Check that the driver supports the host.

        :raises HostUnsupported: the hypervisor is not Xen, or Xen or libvirt
            is too old; the message says what was found and what is needed.
        """
        self._facts.check(min_libvirt, min_xen)

    def hostname(self) -> str:
        """Return the host's name, the first that libvirt reported.

        :raises ConnectionFailed: the name is not known yet, and libvirt cannot
            be reached.
        """
        return self._facts.hostname()

    def capabilities(self) -> capabilities.Capabilities:
        """Return what the host can do; asked once per connection.

        :raises HostUnsupported: the host cannot run Xen guests.
        """
        return self._facts.capabilities()

    def cpus(self) -> int:
        """Return the number of CPUs that Xen has."""
        return self._facts.cpus()

    def memory(self) -> HostMemory:
        """Return the host's memory; needs one libvirt call."""
        return self._facts.memory()

    # Domains, from the cache

    def records(self) -> Mapping[str, DomainRecord]:
        """Return the records of this driver's domains, by UUID."""
        return {uuid: record for uuid, record in self._watch.all().items()
                if record.ours}

    def foreign(self) -> Mapping[str, DomainRecord]:
        """Return the records of all other domains but dom0. No call."""
        return {uuid: record for uuid, record in self._watch.all().items()
                if not record.ours}

    def record(self, uuid: str) -> DomainRecord:
        """Return the record of one of this driver's domains.

        :raises DomainNotFound: there is no such domain.
        """
        record = self._watch.get(uuid)
        if record is None or not record.ours:
            raise errors.DomainNotFound(uuid)
        return record

    # Domains, through libvirt

    def inventory(self) -> list[inventory.DomainSummary]:
        """Return what all domains but dom0 are; a call for each of them.

        :raises ConnectionFailed: libvirt cannot be reached.
        :raises OperationFailed: libvirt cannot tell.
        """
        found = []
        for record in self._watch.all().values():
            # Else it was undefined meanwhile.
            with contextlib.suppress(errors.DomainNotFound):
                found.append(inventory.read(record, self._xml(record.uuid)))
        return found

    def _xml(self, uuid: str) -> str:
        return str(self._watch.connection.twice(lambda session: session.call(
            'domainGetXMLDesc', lambda domain: domain.XMLDesc(0),
            session.domain(uuid), domain=uuid)))

    def guest(self, uuid: str) -> Guest:
        """Return one of this driver's domains, for operations on it.

        This calls libvirt only if the domain is not in the cache.

        :raises DomainNotFound: there is no such domain.
        """
        record = self._watch.get(uuid) or self._watch.observe(uuid)
        if record is None or not record.ours:
            raise errors.DomainNotFound(uuid)
        return Guest(self._watch, uuid, record.name)

    def foreign_guest(self, uuid: str) -> Guest:
        """Return a domain that is not this driver's, to take it over.

        :raises DomainNotFound: there is no such domain, or it is ours.
        """
        record = self._watch.get(uuid)
        if record is None or record.ours:
            raise errors.DomainNotFound(uuid)
        return Guest(self._watch, uuid, record.name)

    def define(self, text: str) -> Guest:
        """Define a domain, or replace its definition for the next start.

        :param text: the domain's XML.
        :raises DomainExists: its name or its UUID belongs to another domain.
        :raises OperationFailed: libvirt refuses the XML.
        """
        wanted = xml.parse(text)
        uuid, name = xml.need(wanted, 'uuid'), xml.need(wanted, 'name')
        known = self._watch.get(uuid)
        if known is not None and not known.ours:
            raise errors.DomainExists(
                'domainDefineXML', uuid, None,
                f'domain {known.name} has this UUID, and is not ours')
        with self._watch.definition(uuid) as ticket:
            session = self._watch.connection.session()
            try:
                domain = session.call(
                    'domainDefineXML', session.raw.defineXML, text,
                    domain=uuid)
            except errors.OperationFailed as error:
                # libvirt has no error code for a name that is in use.
                taken = any(record.name == name and record.uuid != uuid
                            for record in self._watch.all().values())
                if taken and error.code == libvirt.VIR_ERR_OPERATION_FAILED:
                    raise errors.DomainExists(
                        error.operation, uuid, error.code,
                        error.message) from error
                raise
            session.keep(uuid, domain)
            self._watch.learn(uuid, self._watch.get(uuid) or DomainRecord(
                uuid=uuid, name=name, state=DomainState.SHUTDOWN,
                ours=metadata.ours(wanted, self._owner)), ticket)
        return Guest(self._watch, uuid, name)
