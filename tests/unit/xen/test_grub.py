# SPDX-License-Identifier: Apache-2.0
"""Loaders of the driver's own, built by a double of grub's program."""

import hashlib
import json
import os
import stat
import subprocess

import fixtures

from tests.unit import base
from xen44_driver.xen import bootfile
from xen44_driver.xen import grub

PLATFORM = 'x86_64-xen'

# It needs all of grub's modules that are built in, and those of linux.
MKIMAGE = '''\
#!/bin/sh
for argument; do
    case $argument in
        --output=*) out=${argument#--output=} ;;
        --memdisk=*) disk=${argument#--memdisk=} ;;
        --config=*) config=${argument#--config=} ;;
    esac
done
[ ! -e "$0.fails" ] || { echo "it is broken" >&2; exit 1; }
printf '\\177ELF' > "$out"
cat "$disk" "$config" >> "$out"
echo "$@" >> "$out"
'''


class GrubCase(base.TestCase):

    def setUp(self):
        super().setUp()
        self.top = self.useFixture(fixtures.TempDir()).path
        self.directory = os.path.join(self.top, 'state', 'loaders')
        self.modules = os.path.join(self.top, 'grub')
        self.program = os.path.join(self.top, 'grub-mkimage')
        self.patch(grub, 'MODULES', self.modules)
        self.patch(grub, 'DISTRIBUTION', os.path.join(self.top, 'stock'))
        self.patch(grub, '_PROGRAM', self.program)
        self.write(self.program, MKIMAGE)
        os.chmod(self.program, 0o700)
        names = [*grub._BUILT_IN, 'relocator']
        for name in (*names, 'linux', 'kernel'):
            kind = 'img' if name == 'kernel' else 'mod'
            self.write(self.module(f'{name}.{kind}'), name)
        self.write(self.module('moddep.lst'), ''.join(
            f'{name}:\n' for name in names) + 'linux: relocator\n')

    def module(self, name):
        return os.path.join(self.modules, PLATFORM, name)

    def write(self, path, text):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w') as file:
            file.write(text)

    def build(self):
        return grub.build(self.directory, [PLATFORM])

    def problems(self):
        return ' '.join(grub.problems(self.directory, PLATFORM))


class BuildTest(GrubCase):

    def test_build(self):
        built, = self.build()
        with open(built.path, 'rb') as file:
            content = file.read()
        self.assertEqual(hashlib.sha256(content).hexdigest(), built.sha256)
        text = content.decode(errors='replace')
        # The command of a kernel's is loaded later: a configuration's lines
        # may have its name. What it needs is there.
        self.assertIn('grub/x86_64-xen/linux.mod', text)
        self.assertNotIn('relocator.mod', text)
        modules = text.splitlines()[-1].split()
        self.assertIn('relocator', modules)
        self.assertNotIn('linux', modules)
        for name in ('grub.cfg', 'bls.cfg', 'legacy.cfg', 'pv.cfg'):
            self.assertIn(name, text)
        self.assertEqual(0o644, stat.S_IMODE(os.stat(built.path).st_mode))
        self.assertEqual({'loaders.json', os.path.basename(built.path)},
                         {*os.listdir(self.directory)})
        with open(os.path.join(self.directory, 'loaders.json')) as file:
            self.assertEqual(built.sha256,
                             json.load(file)[PLATFORM]['sha256'])

    def test_with_blscfg(self):
        """Grub reads the entries itself where it can."""
        self.write(self.module('blscfg.mod'), 'blscfg')
        with open(self.module('moddep.lst'), 'a') as file:
            file.write('blscfg: linux\n')
        built, = self.build()
        with open(built.path, errors='replace') as file:
            self.assertIn('grub/x86_64-xen/blscfg.mod', file.read())

    def test_without_old_file_systems(self):
        """A version of grub that dropped one still makes loaders."""
        self.write(self.module('moddep.lst'), ''.join(
            f'{name}:\n' for name in (*grub._BUILT_IN, 'relocator', 'f2fs'))
            + 'linux: relocator\n')
        self.write(self.module('f2fs.mod'), 'f2fs')
        built, = self.build()
        with open(built.path, errors='replace') as file:
            modules = file.read().splitlines()[-1].split()
        self.assertIn('f2fs', modules)
        self.assertNotIn('reiserfs', modules)

    def test_failures(self):
        """What was built before stays."""
        built = self.build()
        self.write(f'{self.program}.fails', '')
        for break_, text in (
                (lambda: None, 'it is broken'),
                (lambda: os.unlink(self.program), 'grub-common'),
                (lambda: os.unlink(self.module('linux.mod')), 'grub-xen-bin'),
                (lambda: self.write(self.module('moddep.lst'), 'linux:\n'),
                 "no module"),
                (lambda: os.unlink(self.module('moddep.lst')),
                 'grub-xen-bin')):
            break_()
            raised = self.assertRaises(grub.CannotBuild, self.build)
            self.assertIn(text, str(raised))
            self.assertEqual(built[0], grub.find(self.directory, PLATFORM))

    def test_no_elf(self):
        self.write(self.program, MKIMAGE.replace('ELF', 'COFF'))
        self.assertIn('ELF', str(
            self.assertRaises(grub.CannotBuild, self.build)))

    def test_it_hangs(self):
        self.useFixture(fixtures.MockPatchObject(
            grub.subprocess, 'run',
            side_effect=subprocess.TimeoutExpired('grub-mkimage', 120)))
        self.assertIn('120 s', str(
            self.assertRaises(grub.CannotBuild, self.build)))


class FindTest(GrubCase):

    def test_the_own_one_comes_first(self):
        stock = grub.path(grub.DISTRIBUTION, PLATFORM)
        self.assertEqual(bootfile.BootFile(path=stock),
                         grub.find(self.directory, PLATFORM))
        self.write(stock, 'grub')
        found = grub.find(self.directory, PLATFORM)
        self.assertEqual(
            (stock, hashlib.sha256(b'grub').hexdigest()),
            (found.path, found.sha256))
        built, = self.build()
        self.assertEqual(built, grub.find(self.directory, PLATFORM))

    def test_problems(self):
        built, = self.build()
        self.assertEqual('', self.problems())
        # An update of grub.
        self.write(self.module('ext2.mod'), 'newer')
        self.assertIn('another version', self.problems())
        self.build()
        self.assertEqual('', self.problems())
        # Without what it was made of.
        os.unlink(self.module('moddep.lst'))
        self.assertEqual('', self.problems())
        self.write(built.path, 'somebody else\'s')
        self.assertIn('not what was built', self.problems())

    def test_a_damaged_record(self):
        self.build()
        for text in ('', '[]', '{"x86_64-xen": 1}', 'no JSON'):
            self.write(os.path.join(self.directory, 'loaders.json'), text)
            self.assertIn('not what was built', self.problems())
