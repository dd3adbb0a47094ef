# SPDX-License-Identifier: Apache-2.0
"""What is built is kept by what it is made of."""

import os

from labkit import cache
from labkit import kernel
from labkit import util
from tests.unit.labkit import base


class RecipeTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.tree = self.directory / 'recipe'
        (self.tree / 'sub').mkdir(parents=True)
        (self.tree / 'one').write_text('1')
        (self.tree / 'sub/two').write_text('2')
        self.before = cache.recipe('text', self.tree)

    def test_the_same_again(self):
        os.utime(self.tree / 'one', (1, 1))
        self.assertEqual(self.before, cache.recipe('text', self.tree))
        self.assertEqual(12, len(self.before))

    def test_each_change_counts(self):
        keys = {self.before, cache.recipe('other', self.tree),
                cache.recipe('te', 'xt', self.tree)}
        (self.tree / 'sub/two').write_text('3')
        keys.add(cache.recipe('text', self.tree))
        (self.tree / 'sub/two').chmod(0o755)
        keys.add(cache.recipe('text', self.tree))
        (self.tree / 'sub/two').rename(self.tree / 'two')
        keys.add(cache.recipe('text', self.tree))
        self.assertEqual(6, len(keys))


class DirectoryTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.patch(util, 'need_root', lambda: None)
        self.built = 0

    def build(self, scratch, log):
        self.built += 1
        (scratch / 'result').mkdir()
        (scratch / 'result/file').write_text(f'{self.built}')

    def test_built_once(self):
        for _ in range(2):
            found = cache.directory('kind', 'a' * 12, self.build)
            self.assertEqual('1', (found / 'file').read_text())
        self.assertEqual(1, self.built)

    def test_a_failed_build_leaves_nothing(self):
        def fail(scratch, log):
            (scratch / 'result').mkdir()
            raise util.LabError('no')

        self.assertRaises(util.LabError, cache.directory, 'kind', 'a' * 12,
                          fail)
        self.assertEqual([], list(self.cache.glob('kind-*')))

    def test_what_a_killed_build_left(self):
        left = self.cache / 'kind-bbbbbbbbbbbb.x1'
        left.mkdir()
        cache.directory('kind', 'a' * 12, self.build)
        self.assertFalse(left.exists())

    def test_the_scratch_of_a_kind_of_a_longer_name(self):
        scratch = self.cache / 'kind-other-bbbbbbbbbbbb.x1'
        scratch.mkdir()
        cache.directory('kind', 'a' * 12, self.build)
        self.assertTrue(scratch.exists())

    def test_entries_of_a_kind_of_a_longer_name(self):
        # What follows "kind-" is as long as a key.
        others = [self.cache / f'kind-other-{number:06}'
                  for number in range(cache.KEPT)]
        for path in others:
            path.mkdir()
            os.utime(path, (1, 1))
        cache.directory('kind', 'a' * 12, self.build)
        self.assertEqual([], [path for path in others if not path.exists()])

    def test_the_last_used_are_kept(self):
        for number, letter in enumerate('abcd'):
            path = cache.directory('kind', letter * 12, self.build)
            os.utime(path, (number, number))
        # Used again: younger than b, which goes.
        cache.directory('kind', 'a' * 12, self.build)
        cache.directory('kind', 'e' * 12, self.build)
        left = {path.name[-1] for path in self.cache.glob('kind-?*')}
        self.assertEqual({'a', 'd', 'e'}, left)


class KernelConfigTest(base.TestCase):

    def test_lines_that_linux_did_not_take(self):
        wanted = ('CONFIG_XEN=y\n# a comment\nCONFIG_KVM=y\n'
                  '# CONFIG_USB is not set\n# CONFIG_NET is not set\n')
        got = 'CONFIG_XEN=y\n# CONFIG_KVM is not set\nCONFIG_USB=m\n'
        self.assertEqual(['CONFIG_KVM=y', '# CONFIG_USB is not set'],
                         kernel._refused(wanted, got))

    def test_the_last_line_about_an_option_counts(self):
        wanted = 'CONFIG_PCI=y\nCONFIG_XEN=y\n# CONFIG_PCI is not set\n'
        self.assertEqual([], kernel._refused(wanted, 'CONFIG_XEN=y\n'))
        self.assertEqual(['# CONFIG_PCI is not set'], kernel._refused(
            wanted, 'CONFIG_XEN=y\nCONFIG_PCI=y\n'))

    def test_our_own_lines_are_all_of_that_form(self):
        text = kernel._KERNELS['aarch64'].config
        for line in text.splitlines():
            if line and 'CONFIG_' not in line:
                self.assertTrue(line.startswith('#'), line)
