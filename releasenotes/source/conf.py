# SPDX-License-Identifier: Apache-2.0
"""Sphinx configuration of the release notes."""

project = 'xen44_driver'
copyright = 'xen44_driver developers'
extensions = [
    'openstackdocstheme',
    'reno.sphinxext',
]
html_theme = 'openstackdocs'
openstackdocs_auto_name = False
openstackdocs_pdf_link = False
openstackdocs_repo_name = 'xen44_driver'
openstackdocs_bug_project = ''
openstackdocs_bug_tag = ''
exclude_patterns = []
pygments_style = 'native'
