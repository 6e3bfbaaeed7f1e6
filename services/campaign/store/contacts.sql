-- name: lock_contacts
-- One import of a campaign at a time. Not the campaign's row: an import takes seconds, and edits need not wait for it.
SELECT pg_try_advisory_xact_lock(hashtextextended('contacts ' || $1::uuid, 0))

-- name: lock_contacts_shared
-- Uploads don't hinder each other, but no file is replaced while it is being imported.
SELECT pg_try_advisory_xact_lock_shared(hashtextextended('contacts ' || $1::uuid, 0))

-- name: delete_uploads
DELETE FROM upload WHERE campaign_id = $1

-- name: insert_upload
INSERT INTO upload (id, campaign_id, consent_by, description, size_bytes)
VALUES ($1, $2, $3, $4::jsonb, $5)

-- name: insert_chunk
INSERT INTO upload_chunk (upload_id, ordinal, data) VALUES ($1, $2, $3)

-- name: get_upload
SELECT id, campaign_id, description, size_bytes FROM upload WHERE campaign_id = $1 AND id = $2

-- name: get_chunk
SELECT data FROM upload_chunk WHERE upload_id = $1 AND ordinal = $2

-- name: insert_messages
-- QUEUED from the import on, so that a run need not rewrite them all; shown as WAITING until then.
INSERT INTO message (campaign_id, number, status)
SELECT $1, number, 2 FROM generate_series($2::int, $3::int) AS number

-- name: set_import_counts
UPDATE campaign
SET waiting = $2, total = $2, rows_read = $3, rows_invalid = $4, rows_duplicate = $5, import_time = now(),
    -- Who confirmed the contacts' consent outlives the upload.
    consent_by = u.consent_by, consent_time = u.consent_time
FROM upload u
WHERE campaign.id = $1 AND u.campaign_id = $1

-- name: set_columns
UPDATE campaign_content SET columns = $2::jsonb WHERE campaign_id = $1

-- name: delete_problems
DELETE FROM contact_problem WHERE campaign_id = $1

-- name: problems_after
SELECT ordinal, row_number, column_name, reason, detail
FROM contact_problem
WHERE campaign_id = $1 AND ordinal > $2
ORDER BY ordinal
LIMIT $3

-- name: analyze_contacts
-- Another import may be doing the same: once is enough.
ANALYZE (SKIP_LOCKED) contact, message, contact_problem
