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

ALTER ROLE :"owner" PASSWORD :'owner_password';
ALTER ROLE :"app"   PASSWORD :'app_password';
\if :superuser
ALTER ROLE :"owner" NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION;
ALTER ROLE :"app"   NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION;
\else
GRANT :"owner" TO CURRENT_USER; -- who may otherwise not give it the database
\endif

\set database :app
\ir ../../docker/database.sql
