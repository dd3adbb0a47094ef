# SPDX-License-Identifier: Apache-2.0
"""What the lab's Horizon has in place of its defaults."""

from horizon.utils import secret_key
from openstack_dashboard.settings import HORIZON_CONFIG

ALLOWED_HOSTS = ['${ip}']
OPENSTACK_KEYSTONE_URL = '${auth_url}'
SECRET_KEY = secret_key.generate_or_read_from_file(
    '${directory}/secret_key')
STATIC_ROOT = '${static}'
COMPRESS_OFFLINE = True
AVAILABLE_THEMES = [('default', 'Default', 'themes/default')]
# One process serves it, and static files are compressed without memcached.
CACHES = {'default': {
    'BACKEND': 'django.core.cache.backends.locmem.LocMemCache'}}
# A lab begins without cinder-volume.
LAUNCH_INSTANCE_DEFAULTS = {'create_volume': False}
# Serial consoles are frames in Horizon's own pages.
X_FRAME_OPTIONS = 'SAMEORIGIN'
# Beside an emulated host pages come slowly, and messages would be gone.
HORIZON_CONFIG['auto_fade_alerts']['delay'] = 30000
# Django's default would send errors by mail.
LOGGING = {
    'version': 1,
    'disable_existing_loggers': False,
    'handlers': {'console': {'class': 'logging.StreamHandler'}},
    'root': {'handlers': ['console'], 'level': 'INFO'},
}
