# SPDX-License-Identifier: Apache-2.0
"""Which libvirt calls do not depend on how many domains there are."""

from tests.functional import base
from tests.functional import calls

#: How many domains there are; the slow test has more, one after the other.
FEW = 10
MANY = (50, 500)


class PeriodicTasksTest(calls.CallsBase):

    def calls_of_each(self):
        """The calls of each task, by its name."""
        found = {}
        for name, task in self.periodic_tasks().items():
            with self.counter.during() as found[name]:
                task()
        return found

    def check(self, *numbers):
        server = self.boot()
        few = self.calls_of_each()
        # The host's free memory is all that changes without an event.
        self.assertEqual(
            {'update_available_resource': {'nodeGetFreeMemory'}},
            {name: set(found) for name, found in few.items() if found})
        for number in numbers:
            self.crowd(server, number)
            self.assertEqual(number, len(self.driver.list_instances()))
            self.assertEqual(few, self.calls_of_each(), f'{number} domains')

    def test_no_call_for_each_domain(self):
        self.check(FEW)

    @base.slow
    def test_no_call_for_each_of_many(self):
        self.check(*MANY)
