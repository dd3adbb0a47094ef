# SPDX-License-Identifier: Apache-2.0
"""Commands for operators: ``xen44-host`` and ``xen44-status``."""
