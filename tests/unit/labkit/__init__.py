# SPDX-License-Identifier: Apache-2.0
"""The lab's own code, as far as it needs neither root nor a lab."""
