# SPDX-License-Identifier: Apache-2.0
"""Native threads, or eventlet: what Nova runs on in a test process."""

import importlib.metadata
import os

#: The release of Nova, such as 34.
NOVA = int(importlib.metadata.version('nova').split('.')[0])


def choose(*, native):
    """Let Nova decide, before anything else of it is imported.

    :param native: whether it uses native threads, unless the environment says
        otherwise
    """
    os.environ.setdefault('OS_NOVA_DISABLE_EVENTLET_PATCHING', str(native))

    from nova import monkey_patch  # noqa: PLC0415

    # Nova 31 does it when it is imported.
    if hasattr(monkey_patch, 'patch'):
        monkey_patch.patch()
