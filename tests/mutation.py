# SPDX-License-Identifier: Apache-2.0
"""Change the code in small ways, and count which changes the tests notice.

mutmut does it (``[tool.mutmut]`` in pyproject.toml): it loads the unit tests
once and forks for each change, with the tests that reach the changed function.
Here is what it lacks: changes that remove a statement or turn a condition
round, no changes of texts for people, a sample of fixed seed, and a score for
each module (``tox -e mutation``).

mutmut leaves functions with decorators and the level of modules and classes
alone.
"""

from __future__ import annotations

import argparse
import collections
from collections.abc import Iterator
import contextlib
import fnmatch
import io
import os
import pathlib
import random
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

ROOT = pathlib.Path(__file__).resolve().parents[1]
#: What the sample is drawn by: the same code gives the same sample.
SEED = 'xen44'
#: A change is noticed if the tests fail or do not end.
CAUGHT = ('killed', 'timeout', 'segfault', 'suspicious')


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


def _report(chosen: list[str], least: float) -> int:
    """Print what was not noticed and the scores; return the exit status."""
    results = _results()
    tried = collections.Counter(_module(name) for name in chosen)
    caught = collections.Counter(
        _module(name) for name in chosen if results[name] in CAUGHT)
    for name in sorted(chosen):
        if results[name] not in CAUGHT:
            print(f'\n--- not noticed ({results[name]}): {name}')
            diff = diff_apply.get_diff_for_mutant(name).splitlines()
            print('\n'.join(diff[2:]))
    print(f'\n{"module":<32} {"tried":>6} {"caught":>6} {"score":>6}')
    for module, number in sorted(tried.items()):
        print(f'{module:<32} {number:>6} {caught[module]:>6} '
              f'{100 * caught[module] / number:>5.0f}%')
    score = 100 * caught.total() / tried.total()
    print(f'{"in all":<32} {tried.total():>6} {caught.total():>6} '
          f'{score:>5.1f}%  (wanted: {least:.0f}%)', flush=True)
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
        return _report(chosen, args.least)


if __name__ == '__main__':
    sys.exit(main())
