# SPDX-License-Identifier: Apache-2.0
"""What tests of several tiers have of CloudStack, beside labkit's double."""
