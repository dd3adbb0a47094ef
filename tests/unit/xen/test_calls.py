# SPDX-License-Identifier: Apache-2.0
import fixtures
import libvirt
from oslotest import base

from tests.unit.xen import fake
from xen44_driver.xen import calls
from xen44_driver.xen import errors


class CallTest(base.BaseTestCase):

    def _call(self, function, *args, **extra):
        return calls.call('domainCreate', function, *args, uri=fake.URI,
                          **extra)

    def test_answers(self):
        self.assertEqual(3, self._call(max, 1, 3))

    def test_one_line_for_each(self):
        log = self.useFixture(fixtures.FakeLogger(level=10))
        self._call(max, 1, 3)
        self.assertRaises(errors.OperationFailed, self._call, self._failing(
            libvirt.VIR_ERR_INTERNAL_ERROR))
        lines = log.output.splitlines()
        self.assertEqual(2, len(lines))
        for line in lines:
            self.assertRegex(line, r'^libvirt call: domainCreate \d\.\d{3} s$')

    def _failing(self, code, domain=libvirt.VIR_FROM_LIBXL):
        def function():
            raise fake.error(code, 'so it is', domain)
        return function

    def test_every_error_is_ours(self):
        other = libvirt.VIR_FROM_LIBXL
        for code, domain, kind in (
                (libvirt.VIR_ERR_NO_DOMAIN, other, errors.DomainNotFound),
                (libvirt.VIR_ERR_DOM_EXIST, other, errors.DomainExists),
                (libvirt.VIR_ERR_OPERATION_TIMEOUT, other,
                 errors.OperationFailed),
                (libvirt.VIR_ERR_NO_SUPPORT, other, errors.NotSupported),
                (libvirt.VIR_ERR_CONFIG_UNSUPPORTED, other,
                 errors.NotSupported),
                (libvirt.VIR_ERR_INTERNAL_ERROR, other,
                 errors.OperationFailed),
                (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_RPC,
                 errors.ConnectionFailed),
                (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_REMOTE,
                 errors.ConnectionFailed),
                (libvirt.VIR_ERR_SYSTEM_ERROR, other, errors.OperationFailed),
                (libvirt.VIR_ERR_NO_CONNECT, other, errors.ConnectionFailed),
                (libvirt.VIR_ERR_AUTH_FAILED, other,
                 errors.ConnectionFailed)):
            with self.subTest(code=code, domain=domain):
                error = self.assertRaises(
                    errors.XenError, self._call, self._failing(code, domain),
                    domain='the-uuid')
                self.assertIs(kind, type(error))
                if isinstance(error, errors.OperationFailed):
                    self.assertEqual(code, error.code)
                    self.assertIn('the-uuid', str(error))
                    self.assertIn('so it is', str(error))

    def test_an_error_without_anything(self):
        error = self.assertRaises(
            errors.OperationFailed, self._call, self._raise_bare)
        self.assertIn('bare', str(error))

    def _raise_bare(self):
        raise libvirt.libvirtError('bare')

    def test_details_are_added_to_what_it_says(self):
        error = errors.OperationFailed('domainCreate', 'u', 1, 'so it is')
        self.assertEqual('domainCreate of domain u failed: so it is',
                         str(error))
        error.details = 'libxl: no such file'
        self.assertIn('so it is (libxl: no such file)', str(error))

    def test_other_exceptions_pass(self):
        self.assertRaises(ZeroDivisionError, self._call, lambda: 1 // 0)
