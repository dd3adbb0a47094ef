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


class PassthroughTest(base.TestCase):

    def test_guest_types(self):
        for words, types in (
                ('pv hvm hap', set()), ('pv hvm hvm_directio', {'hvm'}),
                ('pv hvm hvm_directio pv_directio hap', {'hvm', 'pv'})):
            self.assertEqual(types, xl.passthrough(
                'release : 6.12\n'
                f'virt_caps              : {words}\nxen_major : 4\n'))
        self.assertEqual(set(), xl.passthrough('release : 6.12\n'))


class GrantFramesTest(base.TestCase):

    def test_command_line(self):
        for options, number in (
                ('', None), ('dom0_mem=2048M,max:2048M', None),
                ('gnttab_max_frames=256', 256),
                ('gnttab_max_frames=256 loglvl=all gnttab_max_frames=0x80',
                 128),
                ('gnttab_max_frames=0100', 64),
                ('gnttab_max_frames=many', None),
                ('gnttab_max_frames=08', None),
                ('gnttab_max_maptrack_frames=256', None)):
            self.assertEqual(number, xl.grant_frames(
                'xen_version            : 4.17.5\n'
                f'xen_commandline        : placeholder {options}\n'
                'cc_compiler            : gcc\n'), options)
        self.assertIsNone(xl.grant_frames('release : 6.1\n'))


class HardAffinityTest(base.TestCase):

    def test_cpus(self):
        self.assertEqual(('all', '0-1,4', '3'), xl.hard_affinity(
            'Name       ID  VCPU   CPU State   Time(s) '
            'Affinity (Hard / Soft)\n'
            'Domain-0    0     0    1   r--       7.4  all / all\n'
            'Domain-0    0     1    0   -b-       6.2  0-1,4 / 0-7\n'
            'Domain-0    0     2    -   --p       0.0  3 / all\n'))
        self.assertEqual((), xl.hard_affinity(''))


class EventChannelsTest(base.TestCase):

    def test_number(self):
        for text, number in (('', 0), (
                '   1: VCPU 0: Interdomain (Connected) - Remote Domain 0, '
                'Port 44\n   2: VCPU 0: IPI\n', 2)):
            self.assertEqual(number, xl.event_channels(text))
