# SPDX-License-Identifier: Apache-2.0
"""What xl and lsevtchn print."""

from tests.unit import base
from xen44_driver.xen import xl


class DomainsTest(base.TestCase):

    def test_none(self):
        for text in ('', 'UUID       ID    name\n'):
            self.assertEqual([], list(xl.domains(text)))

    def test_names(self):
        self.assertEqual(
            [xl.RunningDomain(xl.DOM0, 0, 'Domain-0'),
             xl.RunningDomain(base.UUID, 7, 'my guest'),
             xl.RunningDomain(base.IMAGE, 8, '')],
            list(xl.domains(f'''UUID       ID    name
{xl.DOM0}  0    Domain-0
{base.UUID}  7    my guest
{base.IMAGE}  8
''')))


class UptimesTest(base.TestCase):

    def test_spans(self):
        for text, seconds in (
                (' 0:03:33', 213), ('23:59:59', 86399),
                ('1 day,  0:00:00', 86400), ('12 days, 10:00:01', 1072801)):
            self.assertEqual({3: seconds}, xl.uptimes(
                'Name                                ID Uptime\n'
                f'guest-3                              3 {text}\n'))

    def test_names_do_not_matter(self):
        self.assertEqual({5: 60, 6: 61, 7: 62}, xl.uptimes(
            'Name                                ID Uptime\n'
            'a name of more than thirty-three letters    5  0:01:00\n'
            'ends as one 9 1 day, 0:00:00         6  0:01:01\n'
            '                                     7  0:01:02\n'))

    def test_none(self):
        self.assertEqual({}, xl.uptimes(
            'Name                                ID Uptime\n'))


class EventChannelsTest(base.TestCase):

    def test_number(self):
        for text, number in (('', 0), (
                '   1: VCPU 0: Interdomain (Connected) - Remote Domain 0, '
                'Port 44\n   2: VCPU 0: IPI\n', 2)):
            self.assertEqual(number, xl.event_channels(text))
