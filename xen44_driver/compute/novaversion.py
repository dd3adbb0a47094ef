# SPDX-License-Identifier: Apache-2.0
"""What differs between the releases of Nova that are supported, 31 to 34.

The methods of the driver take what the newest release passes; what older ones
do not pass has a default. Other differences belong here. Code asks what Nova
has, not for its number.
"""

from __future__ import annotations

import importlib

from nova import exception


def _event_timeout() -> type[BaseException]:
    try:
        found: type[BaseException] = exception.InstanceEventTimeout
    except AttributeError:
        # Nova 31, which always runs on eventlet.
        found = importlib.import_module('eventlet.timeout').Timeout
    return found


#: What Nova raises if Neutron's event does not come in time.
EventTimeout = _event_timeout()
