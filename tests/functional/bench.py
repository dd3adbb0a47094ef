# SPDX-License-Identifier: Apache-2.0
"""Print how many libvirt calls each periodic task and operation makes.

The host has few domains, then many. No Xen is needed (``tox -e calls``).
"""

import argparse
import collections
import sys
import unittest

from tests.functional import calls

NUMBERS = (1, 10, 50, 500)

#: The calls by what makes them.
Column = dict[str, collections.Counter[str]]


class Measure(calls.CallsBase):
    """Makes a column of the table.

    :param number: how many domains the host has
    :param column: filled in; a test case loses its attributes when it ends
    """

    def __init__(self, number: int, column: Column) -> None:
        super().__init__('measure')
        self.number = number
        self.column = column

    def measure(self):
        """Count the calls of everything."""
        server = self.boot()
        self.column['nova-compute starts'] = self.crowd(server, self.number)
        self.column['libvirtd restarts'] = self.restart_libvirtd()
        for name, task in self.periodic_tasks().items():
            with self.counter.during() as self.column[name]:
                task()
        self.column |= self.operations()


def print_table(columns: dict[int, Column]) -> None:
    """Print the numbers, and which calls it are with the most domains.

    :param columns: by the number of domains
    """
    last = columns[max(columns)]
    width = max(map(len, last))
    print(f'{"domains":<{width}}'
          + ''.join(f'{number:>6}' for number in columns) + '  which')
    for name, found in last.items():
        which = ', '.join(call if times == 1 else f'{call} x{times}'
                          for call, times in sorted(found.items()))
        print((f'{name:<{width}}'
               + ''.join(f'{column[name].total():>6}'
                         for column in columns.values())
               + f'  {which}').rstrip())


def main() -> int:
    """Run the measurements that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'domains', type=int, nargs='*', default=NUMBERS,
        help='numbers of domains (default: %(default)s)')
    columns: dict[int, Column] = {}
    for number in parser.parse_args().domains:
        result = unittest.TestResult()
        Measure(number, columns.setdefault(number, {})).run(result)
        if not result.wasSuccessful():
            print(*(text for _, text in result.errors + result.failures),
                  file=sys.stderr)
            return 1
    print_table(columns)
    return 0


if __name__ == '__main__':
    sys.exit(main())
