# SPDX-License-Identifier: Apache-2.0
"""Which libvirt calls do not depend on how many domains there are."""

from tests.functional import calls

MANY = 20


class PeriodicTasksTest(calls.CallsBase):

    def calls_of_all(self):
        with self.counter.during() as found:
            for task in self.periodic_tasks().values():
                task()
        return found

    def test_no_call_for_each_domain(self):
        server = self.boot()
        few = self.calls_of_all()
        self.crowd(server, MANY)
        self.assertEqual(MANY, len(self.driver.list_instances()))
        # The host's free memory is all that changes without an event.
        self.assertEqual({'nodeGetFreeMemory'}, set(few))
        self.assertEqual(few, self.calls_of_all())
