-- One service's database and roles: the owner, which migrates, and the role that reads and writes rows.
-- Run by psql as the superuser with SERVICE, OWNER_PASSWORD and APP_PASSWORD in the environment
-- (never on the command line, where ps shows them). Safe to repeat; it also changes passwords.

\ir quiet.sql

\getenv app            SERVICE
\getenv owner_password OWNER_PASSWORD
\getenv app_password   APP_PASSWORD
\set owner :app _owner

SELECT format('CREATE ROLE %I LOGIN', role)
FROM unnest(ARRAY[:'owner', :'app']) AS role
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) \gexec

ALTER ROLE :"owner" NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD :'owner_password';
ALTER ROLE :"app"   NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD :'app_password';

\set database :app
\ir ../../docker/database.sql
