# SPDX-License-Identifier: Apache-2.0
"""What libxl is told: the golden domains, as libvirt translates them.

It leaves out what libvirt tells libxl by other calls: pinned vCPUs.

``XEN44_WRITE_GOLDEN=1`` in the environment writes the files anew. Then read
what git shows of the difference.
"""

from __future__ import annotations

import os
import pathlib

from labkit import config
from tests.gate import base

#: The domains, as the driver writes them.
DOMAINS = config.CHECKOUT / 'tests/unit/compute/data/golden'
#: The same in xl's words (xl.cfg(5)).
NATIVE = pathlib.Path(__file__).parent / 'data/native'

#: In dom0; prints each file after a line with its name.
DIRECTORY = '/root/gate-native'
_TRANSLATE = (f'cd {DIRECTORY} && for file in *_x86_64_*.xml; do '
              'echo "== $file"; virsh domxml-to-native xen-xl $file 2>&1; '
              'done')


class Native(base.GateCase):

    @base.slow
    def test_golden_domains(self) -> None:
        self.addCleanup(self.host.ssh, ['rm', '-rf', DIRECTORY])
        self.host.copy_to(f'{DOMAINS}/', f'{DIRECTORY}/')
        said = self.host.ssh(_TRANSLATE, timeout=300).stdout
        found = {}
        for part in said.split('== ')[1:]:
            name, _, text = part.partition('\n')
            found[name.removesuffix('.xml')] = text.strip() + '\n'
        if os.environ.get('XEN44_WRITE_GOLDEN'):
            NATIVE.mkdir(parents=True, exist_ok=True)
            for old in NATIVE.iterdir():
                old.unlink()
            for name, text in found.items():
                (NATIVE / f'{name}.cfg').write_text(text)
        kept = {path.stem: path.read_text() for path in NATIVE.iterdir()}
        self.assertEqual({*kept}, {*found})
        self.assertEqual({}, {name: text for name, text in found.items()
                              if text != kept[name]})
