-- Run first in the superuser's session that sets passwords. None of its statements gets into the log, whether refused,
-- slow or killed, nor into pg_stat_activity, which a crash report quotes. Only one such session runs at a time: of two
-- that change a role at once, one fails with "tuple concurrently updated".

-- A managed server's administrator, who is no superuser, may not set them.

SELECT current_setting('is_superuser') AS superuser \gset
\if :superuser
SET log_statement = none;
SET log_min_duration_statement = -1;
SET log_min_duration_sample = -1;
SET log_transaction_sample_rate = 0;
SET log_min_error_statement = panic;
SET track_activities = off;
\endif

SET lock_timeout = '60s';
SELECT pg_advisory_lock(hashtext('roles')) \g /dev/null
