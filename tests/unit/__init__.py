# SPDX-License-Identifier: Apache-2.0

from tests import threads

# Older ones patch the standard library when parts of them are imported.
if threads.NOVA < 34:
    threads.choose(native=True)
