# SPDX-License-Identifier: Apache-2.0
"""What is known of every domain, so that nobody has to ask for it."""

from collections.abc import Iterable
from collections.abc import Mapping
import itertools
import threading

from xen44_driver.xen.events import DomainRecord

# Removed domains that are remembered, against late answers about them.
_REMEMBER = 1024


class StateCache:
    """Records of domains, each from the question that was asked last.

    Events, operations and refreshes ask libvirt at the same time, and the
    answers come in any order. So each takes a :meth:`ticket` before it asks;
    its answer is refused if anything was learnt of that domain in between,
    and it has to ask again. The lock is held over nothing but these
    dictionaries.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = itertools.count(1)
        self._records: dict[str, DomainRecord] = {}
        # When the last thing was learnt of a domain, removed ones too.
        self._learnt: dict[str, int] = {}

    def ticket(self) -> int:
        """A moment before a question."""
        return next(self._count)

    def offer(self, uuid: str, record: DomainRecord | None,
              ticket: int) -> bool:
        """Learn an answer.

        :param record: None if there is no such domain.
        :param ticket: from before the question.
        :returns: whether it was taken; if not, ask again.
        """
        with self._lock:
            return self._learn(uuid, record, ticket)

    def offer_all(self, records: Iterable[DomainRecord], ticket: int
                  ) -> dict[str, DomainRecord | None]:
        """Learn of every domain: those that are not there are gone.

        :returns: by UUID, what was known before of those that changed.
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
        """What is known of a domain; None if there is no such."""
        with self._lock:
            return self._records.get(uuid)

    def all(self) -> Mapping[str, DomainRecord]:
        """A copy of all that is known, by UUID."""
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
            # In the order in which they were learnt: the oldest first.
            gone = next(u for u in self._learnt if u not in self._records)
            del self._learnt[gone]
        return True
