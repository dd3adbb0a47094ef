# SPDX-License-Identifier: Apache-2.0
"""A cache of every domain's state, which saves libvirt calls."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
import itertools
import threading

from xen44_driver.xen.events import DomainRecord

# Number of removed domains to remember, to recognise late answers about them.
_REMEMBER = 1024


class StateCache:
    """Records of domains, each from the latest question to libvirt.

    Several threads ask libvirt at the same time, and the answers arrive in any
    order. So each thread takes a :meth:`ticket` before it asks. Its answer is
    refused if the domain's record was updated after the ticket was taken; it
    then has to ask again. The lock is never held during a libvirt call.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = itertools.count(1)
        self._records: dict[str, DomainRecord] = {}
        # The number of the last update of each domain, also of removed ones.
        self._learnt: dict[str, int] = {}

    def ticket(self) -> int:
        """Return a ticket; call this before asking libvirt."""
        return next(self._count)

    def offer(self, uuid: str, record: DomainRecord | None,
              ticket: int) -> bool:
        """Store an answer about a domain.

        :param record: the domain's record; None if there is no such domain.
        :param ticket: a ticket from before the question.
        :returns: whether the answer was stored; if not, ask again.
        """
        with self._lock:
            return self._learn(uuid, record, ticket)

    def offer_all(self, records: Iterable[DomainRecord], ticket: int
                  ) -> dict[str, DomainRecord | None]:
        """Store the records of all domains; a missing domain does not exist.

        :returns: the old records of the domains that changed, by UUID.
        """
        with self._lock:
            fresh = {record.uuid: record for record in records}
            before = dict(self._records)
            for uuid in before.keys() | fresh.keys():
                self._learn(uuid, fresh.get(uuid), ticket)
            return {uuid: before.get(uuid)
                    for uuid in before.keys() | self._records.keys()
                    if before.get(uuid) != self._records.get(uuid)}

    def get(self, uuid: str) -> DomainRecord | None:
        """Return the record of a domain, or None if there is none."""
        with self._lock:
            return self._records.get(uuid)

    def all(self) -> Mapping[str, DomainRecord]:
        """Return a copy of all records, by UUID."""
        with self._lock:
            return dict(self._records)

    def _learn(self, uuid: str, record: DomainRecord | None,
               ticket: int) -> bool:
        if self._learnt.get(uuid, 0) > ticket:
            return False
        self._learnt.pop(uuid, None)
        self._learnt[uuid] = next(self._count)
        if record is not None:
            self._records[uuid] = record
        else:
            self._records.pop(uuid, None)
        if len(self._learnt) > len(self._records) + _REMEMBER:
            # The dictionary is in the order of the updates, the oldest first.
            gone = next(u for u in self._learnt if u not in self._records)
            del self._learnt[gone]
        return True
