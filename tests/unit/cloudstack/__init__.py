# SPDX-License-Identifier: Apache-2.0
"""The front door for CloudStack."""
