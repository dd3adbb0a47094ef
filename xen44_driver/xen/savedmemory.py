# SPDX-License-Identifier: Apache-2.0
"""Where libvirt's libxl driver keeps the memory of domains that it has saved.

Its own module, as the privileged daemon needs no more of what handles domains.
"""

from __future__ import annotations

import os

#: The directory, which cannot be configured.
DIRECTORY = '/var/lib/libvirt/libxl/save'


def path(domain: str) -> str:
    """Return the path of the file with a domain's memory.

    :param domain: the domain's name.
    """
    return os.path.join(DIRECTORY, f'{domain}.save')
