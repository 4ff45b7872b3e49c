-- The role `monitor`, with the password PASSWORD, which reads statistics and no rows. Safe to repeat.

\ir quiet.sql

\getenv password PASSWORD

SELECT 'CREATE ROLE monitor LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'monitor') \gexec

ALTER ROLE monitor PASSWORD :'password';
ALTER ROLE monitor NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION CONNECTION LIMIT 5;
GRANT pg_monitor TO monitor;
