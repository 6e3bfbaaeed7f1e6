-- What services/export connects as. A role belongs to the whole server, so it is no part of a migration.

-- name: lock_role
-- Replicas start at the same time.
SELECT pg_advisory_xact_lock(7306093427189)

-- name: role_exists
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'outreach_export')

-- name: create_role
CREATE ROLE outreach_export

-- name: role_statement
-- ALTER ROLE has no parameters: the server quotes the value itself. It is a verifier, no password.
SELECT format('ALTER ROLE outreach_export LOGIN NOINHERIT PASSWORD %L', $1::text)

-- name: read_only
ALTER ROLE outreach_export SET default_transaction_read_only = on

-- name: grant_views
GRANT SELECT ON export_key, export_campaign, export_variables, export_message TO outreach_export

-- name: grant_schema
-- Where an administrator has taken it from everybody.
DO $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO outreach_export', current_schema());
END
$$
