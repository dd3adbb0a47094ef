# SPDX-License-Identifier: Apache-2.0
"""``python3 -m labkit``, which ``lab/xenlab`` runs."""

import sys

from labkit import cli

sys.exit(cli.main())
