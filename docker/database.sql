-- A service's database: made if it is missing, and its privileges set. Safe to repeat.
-- Run by psql as the superuser with the variables `app`, the service's role, and `database`: the
-- service's own name, or another one while a backup is restored.

\set owner :app _owner

SELECT format('CREATE DATABASE %I OWNER %I', :'database', :'owner')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec

REVOKE ALL     ON DATABASE :"database" FROM PUBLIC;
GRANT  CONNECT ON DATABASE :"database" TO :"app";

-- The same server: of several hosts, a standby may not know the database yet.
\connect :"database" - :"HOST" :"PORT"

-- As in quiet.sql, for the objects in this database.
SET lock_timeout = '60s';
SELECT pg_advisory_lock(hashtext('roles')) \g /dev/null

ALTER SCHEMA public OWNER TO :"owner";
REVOKE ALL   ON SCHEMA public FROM PUBLIC;
GRANT  USAGE ON SCHEMA public TO :"app";

ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO :"app";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public
    GRANT USAGE, SELECT ON SEQUENCES TO :"app";
