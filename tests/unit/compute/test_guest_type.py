# SPDX-License-Identifier: Apache-2.0
"""Image, flavor, default: who decides on the guest type."""

from nova import exception

from tests.unit import base
from xen44_driver.compute import guest_type
from xen44_driver.xen.guesttype import GuestType

PV, PVH, HVM = GuestType


class ChooseTest(base.TestCase):

    def choose(self, *, mode=None, spec=None, offered=(PV, PVH, HVM),
               **properties):
        if mode:
            properties['hw_vm_mode'] = mode
        specs = {'xen44:guest_type': spec} if spec else {}
        return guest_type.choose(
            base.image(**properties),
            base.instance(extra_specs=specs).flavor,
            default=HVM, offered=offered)

    def refuse(self, *says, **asked):
        raised = self.assertRaises(
            exception.InvalidInput, self.choose, **asked)
        for text in says:
            self.assertIn(text, str(raised))

    def test_who_decides(self):
        for expected, asked in (
            (HVM, {}),
            (PV, {'mode': 'xen'}),
            (HVM, {'mode': 'hvm'}),
            (PVH, {'spec': 'pvh'}),
            (PV, {'spec': 'pv', 'mode': 'xen'}),
            (HVM, {'spec': 'hvm', 'mode': 'hvm'}),
            (PV, {'mode': 'xen'}),
            # Nova's names of old.
            (HVM, {'mode': 'hv'}),
            (PV, {'mode': 'pv'}),
        ):
            self.assertIs(expected, self.choose(**asked), asked)

    def test_disagreement(self):
        self.refuse('hw_vm_mode=hvm', 'xen44:guest_type=pvh',
                    mode='hvm', spec='pvh')

    def test_unknown(self):
        self.refuse("xen44:guest_type 'PV'", 'pv, pvh, hvm', spec='PV')
        self.refuse("hw_vm_mode 'uml'", 'xen, hvm', mode='uml')

    def test_mode_xen_without_pv(self):
        # ARM, and x86 hosts without PV: PVH is all that knows Xen.
        for offered in ((PVH,), (PVH, HVM)):
            self.assertIs(PVH, self.choose(mode='xen', offered=offered))
            self.assertIs(PVH, self.choose(
                mode='xen', spec='pvh', offered=offered))
        self.refuse('guest type pv', 'image', 'it can run: hvm',
                    mode='xen', offered=(HVM,))

    def test_not_offered(self):
        for asked, why in (({'mode': 'hvm'}, 'image'),
                           ({'spec': 'hvm'}, 'flavor'),
                           ({}, 'default_guest_type')):
            self.refuse('guest type hvm', why, 'it can run: pv',
                        offered=(PV,), **asked)


class ModeTest(base.TestCase):

    def test_what_is_advertised_is_honoured(self):
        for offered in ((PV, PVH, HVM), (PVH, HVM), (PV,), (PVH,), (HVM,)):
            for kind in offered:
                mode = guest_type.mode_of(kind)
                self.assertIn(guest_type.by_mode(mode, offered), offered)
                self.assertEqual(mode, guest_type.mode_of(
                    guest_type.by_mode(mode, offered)))
