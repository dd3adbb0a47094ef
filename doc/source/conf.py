# SPDX-License-Identifier: Apache-2.0
"""Sphinx configuration of the manual."""

from sphinx_feature_classification import support_matrix

# Nova's matrix also has rows that are not operations.
support_matrix.FEATURE_PREFIX = (
    'operation.', 'guest.', 'console.', 'storage.')

project = 'xen44_driver'
copyright = 'xen44_driver developers'
extensions = [
    'openstackdocstheme',
    'oslo_config.sphinxext',
    'oslo_config.sphinxconfiggen',
    'sphinx.ext.autodoc',
    'sphinx_feature_classification.support_matrix',
]
config_generator_config_file = '../../etc/xen44/config-generator.conf'
sample_config_basename = '_static/xen44'
html_theme = 'openstackdocs'
openstackdocs_auto_name = False
openstackdocs_pdf_link = False
openstackdocs_repo_name = 'xen44_driver'
openstackdocs_bug_project = ''
openstackdocs_bug_tag = ''
exclude_patterns = []
pygments_style = 'native'
