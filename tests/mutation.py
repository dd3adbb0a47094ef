# SPDX-License-Identifier: Apache-2.0
"""Change the code in small ways, and count which changes the tests notice.

mutmut does it (``[tool.mutmut]`` in pyproject.toml): it loads the unit tests
once and forks for each change, with the tests that reach the changed function.
Here is what it lacks: changes that remove a statement or turn a condition
round, no changes of texts for people, a sample of fixed seed, a score for each
module, and a second try with the tests that mutmut cannot run: those of whole
processes and of Nova's services (``--functional``, ``tox -e mutation``).

mutmut leaves functions with decorators and the level of modules and classes
alone.
"""

from __future__ import annotations

import argparse
import collections
from collections.abc import Iterator
from concurrent import futures
import contextlib
import fnmatch
import io
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

import hypothesis
import libcst
from mutmut import __main__ as mutmut
from mutmut.mutation import diff_apply
from mutmut.mutation import mutators
from mutmut.stats import status_by_exit_code
from mutmut.utils import format_utils

ROOT = pathlib.Path(__file__).resolve().parents[1]
#: What the sample is drawn by: the same code gives the same sample.
SEED = 'xen44'
#: A change is noticed if the tests fail or do not end.
CAUGHT = ('killed', 'timeout', 'segfault', 'suspicious')
#: Exit statuses of tests that were ended after some time. On a busy machine,
#: that says nothing of a change, so it counts as not noticed.
ENDED = (124, 137, -9)
#: How unittest names a test that failed; test cases of testtools by their ids.
FAILED = re.compile(r'^(?:FAIL|ERROR): (?:\w+ \()?tests\.([\w.]+)', re.M)
#: Tests (modules or classes) that drive a module through its real program or
#: through Nova's API, the likeliest to notice a change first. Of the patterns,
#: the first that fits counts.
FUNCTIONAL = {
    'cloudstack.*': (
        'unit.cloudstack.test_program', 'functional.test_cloudstack'),
    'xen.threads': ('unit.xen.test_threads',),
    'xen.grub': ('functional.test_grub',),
    '*.disklimits': ('functional.test_suspend',),
    '*.disk_class': ('functional.test_disk_class',),
    '*.snapshot': (
        'functional.test_snapshot', 'functional.test_killed.SnapshotTest'),
    '*.blockjobs': ('functional.test_snapshot',),
    '*.rescue': (
        'functional.test_rescue', 'functional.test_killed.RescueTest'),
    '*.before_resize': (
        'functional.test_resize', 'functional.test_killed.ResizeTest'),
    '*.interrupted': ('functional.test_killed',),
    '*.resize': (
        'functional.test_resize', 'functional.test_killed.ResizeTest'),
    '*.crashdump': ('functional.test_suspend',),
    '*.diagnostics': ('functional.test_suspend',),
    '*.suspend': (
        'functional.test_suspend', 'functional.test_killed.SuspendTest'),
    '*.hostboot': ('functional.test_suspend',),
    '*.consoles': ('functional.test_consoles',),
    '*.interfaces': (
        'functional.test_interfaces', 'functional.test_killed.InterfacesTest'),
    '*.tags': ('functional.test_interfaces', 'functional.test_volumes'),
    '*.attachments': (
        'functional.test_volumes', 'functional.test_killed.VolumesTest'),
    '*.connections': ('functional.test_volumes',),
    '*.volume*': ('functional.test_volumes',),
    # The table is made when the module is imported.
    '*.properties': (
        'unit.compute.test_properties', 'functional.test_properties'),
    '*.agent': ('functional.test_guest_agent',),
    # What every operation needs.
    '*': ('functional.test_servers', 'functional.test_fault_points'),
}


def _remove(node: libcst.CSTNode) -> Iterator[libcst.CSTNode]:
    """Remove a call whose result is not used, or a raise."""
    if isinstance(node, libcst.Raise) or isinstance(node.value, libcst.Call):
        yield libcst.Pass()


def _turn_round(node: libcst.If) -> Iterator[libcst.CSTNode]:
    """Do what an ``if`` guards when its condition does not hold."""
    test = node.test.with_changes(lpar=[libcst.LeftParen()],
                                  rpar=[libcst.RightParen()])
    yield node.with_changes(test=libcst.UnaryOperation(
        operator=libcst.Not(), expression=test))


def _word(node: libcst.BaseString) -> Iterator[libcst.CSTNode]:
    """Change a text that code reads: it is one word."""
    if isinstance(node, libcst.SimpleString) and ' ' not in node.value:
        # The other changes are of its case.
        yield from list(mutators.operator_string(node))[:1]


class _Progress:
    """Says once a minute how far it is, in place of mutmut's moving line."""

    def __init__(self, wanted: int):
        self._wanted = wanted
        self._told = time.monotonic()

    def __call__(self, by_path: dict[str, Any], **_: object) -> None:
        """Take the place of ``print_stats``."""
        if time.monotonic() - self._told < 60:
            return
        self._told = time.monotonic()
        codes = [code for data in by_path.values()
                 for code in data.exit_code_by_key.values()]
        print(f'  tried: {len(codes) - codes.count(None)} of {self._wanted}',
              flush=True)


def _use_our_changes() -> None:
    operators = [
        (kind, _word if operator is mutators.operator_string else operator)
        for kind, operator in mutators.mutation_operators]
    mutators.mutation_operators[:] = [
        *operators, (libcst.Expr, _remove), (libcst.Raise, _remove),
        (libcst.If, _turn_round)]


def _settle_hypothesis() -> None:
    """Have it try the same values each time.

    Tests run once for mutmut's records and once more for each change, always
    as another object of their class, which hypothesis warns of.
    """
    hypothesis.settings.register_profile(
        'mutation', derandomize=True, database=None, suppress_health_check=[
            hypothesis.HealthCheck.differing_executors])
    hypothesis.settings.load_profile('mutation')


def _postpone_annotations(path: pathlib.Path) -> None:
    """Have annotations not evaluated.

    In a class the variants of a method follow the method, and then its name
    may hide the module that an annotation names.
    """
    text = path.read_text()
    wanted = 'from __future__ import annotations\n'
    if wanted in text or '"""' not in text:
        return
    end = text.index('"""', text.index('"""') + 3) + 4
    path.write_text(f'{text[:end]}{wanted}{text[end:]}')


@contextlib.contextmanager
def _copy() -> Iterator[None]:
    """Work in a copy of the checkout, as mutmut leaves its files there."""
    listed = subprocess.run(
        ['git', 'ls-files', '-z', '--cached', '--others',
         '--exclude-standard'], cwd=ROOT, check=True, text=True,
        stdout=subprocess.PIPE).stdout
    with tempfile.TemporaryDirectory(prefix='mutate-') as directory:
        for name in listed.split('\0'):
            if name and (ROOT / name).is_file():
                target = pathlib.Path(directory, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, target)
        for path in pathlib.Path(directory, 'xen44_driver').rglob('*.py'):
            _postpone_annotations(path)
        before = pathlib.Path.cwd()
        os.chdir(directory)
        try:
            yield
        finally:
            os.chdir(before)


def _forget_installed() -> None:
    """Have the tests import the changed code.

    The package that is installed beside Nova is imported when Python starts
    (its .pth file).
    """
    for name in list(sys.modules):
        if name.partition('.')[0] == 'xen44_driver':
            del sys.modules[name]


def _module(mutant: str) -> str:
    """The module that a mutant's name begins with."""
    return mutant.rpartition('.')[0].removeprefix('xen44_driver.')


def _results() -> dict[str, str]:
    """How each mutant fared, by its name."""
    found, _ = mutmut.collect_source_file_mutation_data(mutant_names=())
    return {name: status_by_exit_code[code] for _, name, code in found}


def _sample(patterns: list[str], most: int) -> list[str]:
    """Make all mutants; return the names of those to try.

    :param patterns: of modules to try.
    :param most: so many of each module.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        mutmut.copy_src_dir()
        mutmut.copy_also_copy_files()
        mutmut.setup_source_paths()
        mutmut.create_mutants(1)
    names = collections.defaultdict(list)
    for name in _results():
        names[_module(name)].append(name)
    chosen: list[str] = []
    for module, mutants in sorted(names.items()):
        if any(fnmatch.fnmatch(module, pattern) for pattern in patterns):
            draw = random.Random(f'{SEED} {module}')  # noqa: S311 a sample
            chosen += draw.sample(sorted(mutants), min(most, len(mutants)))
    return chosen


def _functional_tests(mutant: str) -> tuple[str, ...]:
    """The tests that drive what a mutant changes."""
    return next(tests for pattern, tests in FUNCTIONAL.items()
                if fnmatch.fnmatch(_module(mutant), pattern))


def _write_change(mutant: str, directory: str) -> None:
    """Write a mutant's change into the code in a directory.

    mutmut's own function takes the first of several methods of one name.
    """
    path = diff_apply.find_mutant(mutant).path
    module = diff_apply.read_orig_module(path)
    name, owner = format_utils.orig_function_and_class_names_from_key(mutant)
    [scope] = [one for one in module.body
               if isinstance(one, libcst.ClassDef | libcst.FunctionDef)
               and one.name.value == (owner or name)]
    original = diff_apply.find_top_level_function_or_method(
        libcst.Module([scope]), name)
    changed = diff_apply.read_functions_from_index(mutant, path)
    if original is None or changed is None:
        raise LookupError(mutant)
    pathlib.Path(directory, path).write_text(
        module.deep_replace(original, changed[1]).code)


def _run_tests(
    directory: str, tests: str, limit: float,
) -> tuple[int, str]:
    """Run a module or a class of tests in a directory, until one fails.

    Each in a process of its own: unit and functional tests choose threads.

    :param limit: seconds.
    :returns: the exit status, which is one of :data:`ENDED` if they took
        longer, and what they say.
    """
    # Interrupted, tests end the processes that they have started.
    done = subprocess.run(
        ['timeout', '--signal=INT', '--kill-after=60', f'{limit:.0f}',
         sys.executable, '-W', 'ignore', '-m', 'unittest', '--failfast',
         f'tests.{tests}'],
        cwd=directory, env={**os.environ, 'PYTHONPATH': directory},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors='replace', check=False)
    return done.returncode, done.stdout


def _try_functional(mutants: list[str], jobs: int) -> set[str]:
    """Return those that the functional tests of their modules notice.

    :param mutants: those that no unit test noticed.
    :param jobs: tried at a time.
    :raises RuntimeError: tests fail without any change.
    """
    unchanged = str(pathlib.Path.cwd())
    limits = {}

    def measure(tests: str) -> None:
        begin = time.monotonic()
        status, text = _run_tests(unchanged, tests, 1800)
        if status:
            raise RuntimeError(f'{tests} fail without a change:\n'
                               f'{text[-4000:]}')
        limits[tests] = 3 * (time.monotonic() - begin) + 60

    def notices(mutant: str) -> bool:
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(prefix='mutate-') as directory:
            # Python may take the old bytecode of a file that is as long.
            shutil.copytree(
                '.', directory, dirs_exist_ok=True,
                ignore=shutil.ignore_patterns('mutants', '__pycache__'))
            _write_change(mutant, directory)
            for tests in _functional_tests(mutant):
                status, text = _run_tests(directory, tests, limits[tests])
                if status:
                    break
        found = ('not noticed' if not status else
                 'too slow' if status in ENDED else 'noticed')
        failed = FAILED.search(text)
        if found == 'noticed' and failed and _run_tests(
                unchanged, failed[1], limits[tests])[0]:
            found = 'fails without it too'
        print(f'  {found} after {time.monotonic() - begin:.0f} s: {mutant}',
              flush=True)
        return found == 'noticed'

    with futures.ThreadPoolExecutor(jobs) as pool:
        list(pool.map(measure, sorted({
            tests for mutant in mutants
            for tests in _functional_tests(mutant)})))
        found = list(pool.map(notices, mutants))
    return {mutant for mutant, noticed in zip(mutants, found, strict=True)
            if noticed}


def _report(
    chosen: list[str], missed: dict[str, str], functional: set[str],
    least: float,
) -> int:
    """Print what was not noticed and the scores; return the exit status.

    :param chosen: all that were tried.
    :param missed: what became of those that no unit test noticed.
    :param functional: those of them that functional tests noticed.
    :param least: percent that are wanted.
    """
    for name in sorted({*missed} - functional):
        print(f'\n--- not noticed ({missed[name]}): {name}')
        diff = diff_apply.get_diff_for_mutant(name).splitlines()
        print('\n'.join(diff[2:]))
    tried, unit, others = (
        collections.Counter(map(_module, names))
        for names in (chosen, {*chosen} - {*missed}, functional))
    print(f'\n{"module":<32} {"tried":>6} {"unit":>6} {"functional":>10} '
          f'{"score":>6}')

    def row(name: str, number: int, by_unit: int, by_others: int) -> float:
        score = 100 * (by_unit + by_others) / number
        print(f'{name:<32} {number:>6} {by_unit:>6} {by_others:>10} '
              f'{score:>5.1f}%')
        return score

    for module, number in sorted(tried.items()):
        row(module, number, unit[module], others[module])
    score = row('in all', tried.total(), unit.total(), others.total())
    print(f'wanted: {least:.1f}%', flush=True)
    return 0 if score >= least else 1


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('module', nargs='*', default=['*'],
                        help='modules to change (compute.spawn, storage.*)')
    parser.add_argument('--most', type=int, default=60, metavar='N',
                        help='changes of each module (default: %(default)s)')
    parser.add_argument('--least', type=float, default=0, metavar='PERCENT',
                        help='fail if fewer are noticed')
    parser.add_argument('--functional', default=False,
                        action=argparse.BooleanOptionalAction,
                        help='try what no unit test notices with functional '
                             'tests, too: up to minutes for each')
    parser.add_argument('--jobs', type=int, default=os.cpu_count(),
                        help='tried at a time (default: %(default)s)')
    args = parser.parse_args()
    _use_our_changes()
    _settle_hypothesis()
    with _copy():
        chosen = _sample(args.module, args.most)
        if not chosen:
            parser.error('no such module: ' + ' '.join(args.module))
        print(f'{len(chosen)} changes', flush=True)
        mutmut.print_stats = _Progress(len(chosen))
        _forget_installed()
        mutmut._run(chosen, args.jobs)
        results = _results()
        missed = {name: results[name] for name in chosen
                  if results[name] not in CAUGHT}
        noticed = (_try_functional(list(missed), args.jobs)
                   if args.functional and missed else set())
        return _report(chosen, missed, noticed, args.least)


if __name__ == '__main__':
    sys.exit(main())
