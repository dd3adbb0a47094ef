# SPDX-License-Identifier: Apache-2.0
"""The controller: OpenStack and all it leans on, in the lab's namespace.

Use :class:`Cloud`; the modules beside it are its parts.
"""

from labkit.cloud.cloud import GUEST_KEY
from labkit.cloud.cloud import Cloud
from labkit.cloud.cloud import Row

__all__ = ['GUEST_KEY', 'Cloud', 'Row']
