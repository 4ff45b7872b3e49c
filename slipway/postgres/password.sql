-- Gives the role ROLE the password PASSWORD, both in the environment; for `make rotate-secret`.

\ir quiet.sql

\getenv role     ROLE
\getenv password PASSWORD

ALTER ROLE :"role" PASSWORD :'password';
