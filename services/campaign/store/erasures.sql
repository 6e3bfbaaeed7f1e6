-- A contact that was erased has no recipient, no values, and 16 zero bytes in the place of its hash.

-- name: campaigns_of_person
-- Test sends too.
SELECT DISTINCT k.id, k.test_of IS NOT NULL AS is_test
FROM contact c
JOIN campaign k ON k.id = c.campaign_id
WHERE c.recipient_hash = $1 AND k.organisation_id = $2 AND k.channel = $3
ORDER BY k.id

-- name: erase_contacts
UPDATE contact c
SET recipient = '', recipient_hash = '\x00000000000000000000000000000000',
    variables = array_fill(NULL::text, ARRAY[cardinality(c.variables)])
FROM (SELECT number FROM contact WHERE campaign_id = $1 AND recipient_hash = $2 LIMIT $3) AS picked
WHERE c.campaign_id = $1 AND c.number = picked.number
RETURNING c.number

-- name: strip_contacts
-- Of all contacts after a number. The hash stays, so that a late opt-out is still known whose it is.
UPDATE contact c
SET recipient = '', variables = array_fill(NULL::text, ARRAY[cardinality(c.variables)])
FROM (SELECT number FROM contact WHERE campaign_id = $1 AND number > $2 ORDER BY number LIMIT $3) AS picked
WHERE c.campaign_id = $1 AND c.number = picked.number
RETURNING c.number

-- name: erase_messages
UPDATE message
SET status = CASE WHEN status = 2 THEN 9 ELSE status END,
    update_time = CASE WHEN status = 2 THEN now() ELSE update_time END,
    provider_message_id = NULL
WHERE campaign_id = $1 AND number = ANY ($2::int[])
RETURNING number, attempt, old.status AS old_status, new.status AS new_status

-- name: erase_attempts
UPDATE message_attempt SET provider_message_id = NULL WHERE campaign_id = $1 AND number = ANY ($2::int[])

-- name: fewer_to_dispatch
UPDATE campaign SET undispatched = greatest(undispatched - $2, 0) WHERE id = $1

-- name: pending_uploads
SELECT u.id, u.campaign_id, u.description ->> 'encoding' AS encoding
FROM upload u
JOIN campaign k ON k.id = u.campaign_id
WHERE k.organisation_id = $1 AND k.channel = $2
ORDER BY u.id

-- name: wait_for_import
SELECT pg_advisory_xact_lock(hashtextextended('contacts ' || $1::uuid, 0))

-- name: delete_upload
DELETE FROM upload WHERE id = $1

-- name: answers_after
SELECT request_id, response FROM request_log
WHERE organisation_id = $1 AND method = ANY ($2::text[]) AND request_id > $3
ORDER BY request_id
LIMIT $4

-- name: empty_answers
-- The id stays used: whoever repeats the request is refused, and nothing is done twice.
UPDATE request_log SET response = '', request_hash = '' WHERE organisation_id = $1 AND request_id = ANY ($2::uuid[])
