# SPDX-License-Identifier: Apache-2.0
"""Users of the databases."""

from labkit.cloud import database
from labkit.cloud import settings
from tests.unit.labkit import base


class UsersTest(base.TestCase):

    def test_dom0_may_use_its_own_database_alone(self):
        queries = []
        self.patch(database, '_query',
                   lambda socket, sql: queries.extend(sql.splitlines()))
        database.create_users({'database': 'one', 'cinder': 'two'})
        dom0 = "'cinder'@'192.168.144.0/255.255.255.0'"
        self.assertEqual(
            [f"CREATE USER {dom0} IDENTIFIED BY 'two';",
             f'GRANT ALL ON cinder.* TO {dom0};'],
            [one for one in queries if dom0 in one])
        self.assertEqual(1 + len(settings.DATABASES),
                         len([one for one in queries if "'127.0.0.1'" in one]))
