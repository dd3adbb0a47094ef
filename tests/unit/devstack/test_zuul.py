# SPDX-License-Identifier: Apache-2.0
"""Zuul's jobs: what they name is there, and runs."""

import configparser
import re

import yaml

from tests.unit.devstack import base


def _nested():
    text = (base.CHECKOUT / '.zuul.yaml').read_text()
    return next(entry['job'] for entry in yaml.safe_load(text)
                if entry.get('job', {}).get('parent') == 'devstack-tempest')


class ToxTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.tox = configparser.ConfigParser(interpolation=None)
        self.tox.read(base.CHECKOUT / 'tox.ini')

    def test_environments_that_jobs_call(self):
        for name in ('pep8', 'types', 'functional', 'docs', 'releasenotes'):
            self.assertTrue(self.tox[f'testenv:{name}']['commands'], name)

    def test_pep8_is_lint(self):
        self.assertEqual('{[testenv:lint]commands}',
                         self.tox['testenv:pep8']['commands'])

    def test_a_python_runs_the_unit_tests(self):
        # tox makes py311 and the like of [testenv], which has to have
        # commands: a job without one passes.
        self.assertEqual('true',
                         self.tox['tox']['ignore_base_python_conflict'])
        self.assertEqual('stestr run {posargs}',
                         self.tox['testenv']['commands'])
        self.assertIn(':-./tests/unit}',
                      (base.CHECKOUT / '.stestr.conf').read_text())

    def test_each_nova(self):
        section = self.tox['testenv:nova{31,32,33}']
        text = (base.CHECKOUT / '.zuul.yaml').read_text()
        jobs = {entry['job']['name']: entry['job']
                for entry in yaml.safe_load(text) if 'job' in entry}
        for number in (31, 32, 33):
            job = jobs[f'xen44-tox-nova{number}']
            self.assertEqual(f'nova{number}', job['vars']['tox_envlist'])
            # Two of them, as check and gate have.
            self.assertEqual(2, text.count(f'        - {job["name"]}\n'))
            name, = re.findall(rf'nova{number}: -c {{tox_root}}/(\S+)',
                               section['deps'])
            self.assertRegex((base.CHECKOUT / name).read_text(),
                             rf'(?m)^nova=={number}\.')


class NestedTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.job = _nested()

    def test_it_stacks(self):
        job = self.job['vars']
        lines = [f"{name}='{value}'"
                 for name, value in job['devstack_localrc'].items()]
        lines += [f'{"enable" if on else "disable"}_service {name}'
                  for name, on in job['devstack_services'].items()]
        lines += [f'enable_plugin {name} {url}'
                  for name, url in job['devstack_plugins'].items()]
        self.run_well('stack', '\n'.join([*lines, 'XEN44_MIN_MEMORY=1', '']))
        self.assertEqual(1, len(self.calls('xenlab join')))
        # Zuul copies the repository to where this name says.
        name, = job['devstack_plugins']
        self.assertEqual(f'define_plugin {name}',
                         self.calls('define_plugin')[0])
        self.assertEqual(
            {name}, {one.rpartition('/')[2]
                     for one in self.job['required-projects']})

    def test_patterns(self):
        patterns = [self.job['vars']['tempest_test_regex'],
                    *self.job['irrelevant-files']]
        for pattern in patterns:
            re.compile(pattern)
            # Zuul's are RE2's.
            self.assertNotIn('(?', pattern)
        for name, skipped in (('README.rst', True),
                              ('devstack/README.rst', True),
                              ('doc/source/support-matrix.ini', False),
                              ('devstack/plugin.sh', False),
                              ('lab/xenlab', False)):
            self.assertEqual(skipped, any(
                re.search(pattern, name)
                for pattern in self.job['irrelevant-files']), name)

    def test_logs(self):
        play, = yaml.safe_load(
            (base.CHECKOUT / self.job['post-run']).read_text())
        self.assertEqual([play['vars']['xen44_logs']],
                         list(self.job['vars']['zuul_copy_output']))
        state = re.search(r'XEN44_STATE_DIR:-(\S+)}',
                          (base.PLUGIN / 'settings').read_text())[1]
        self.assertIn(f'XENLAB_STATE={state}/lab ',
                      play['vars']['xen44_xenlab'])
