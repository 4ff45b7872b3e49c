-- One service's database: its owner, who migrates, and its role, who reads and writes rows.
-- Run by psql as the superuser with SERVICE, OWNER_PASSWORD and APP_PASSWORD in the environment
-- (never on the command line, where ps shows them). Safe to repeat; it also changes passwords.

\getenv app            SERVICE
\getenv owner_password OWNER_PASSWORD
\getenv app_password   APP_PASSWORD
\set owner :app _owner

SELECT format('CREATE ROLE %I LOGIN', role)
FROM unnest(ARRAY[:'owner', :'app']) AS role
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) \gexec

ALTER ROLE :"owner" NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD :'owner_password';
ALTER ROLE :"app"   NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD :'app_password';

SELECT format('CREATE DATABASE %I OWNER %I', :'app', :'owner')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'app') \gexec

REVOKE ALL     ON DATABASE :"app" FROM PUBLIC;
GRANT  CONNECT ON DATABASE :"app" TO :"app";

\connect :"app"

ALTER SCHEMA public OWNER TO :"owner";
REVOKE ALL   ON SCHEMA public FROM PUBLIC;
GRANT  USAGE ON SCHEMA public TO :"app";

ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO :"app";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public
    GRANT USAGE, SELECT ON SEQUENCES TO :"app";
