"""Django's Postgres with a pool that outlives a restart of its server."""

import psycopg
from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection is tried when it is taken; when one is dead its pool begins anew.

    CONN_HEALTH_CHECKS would try them one by one, waiting longer after each dead one.
    """

    def get_new_connection(self, conn_params):
        taken = super().get_new_connection(conn_params)
        pool = self.pool
        if pool is None:
            return taken
        try:
            pool.check_connection(taken)
        except psycopg.Error:
            pool.putconn(taken)
            pool.drain()
            return super().get_new_connection(conn_params)
        return taken
