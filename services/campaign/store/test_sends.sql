-- A test send is a campaign with `test_of` set: the delivery runs it like any other, and nobody else sees it as one. Only
-- statements of this file look for test sends.

-- name: keep_campaign
-- Until the transaction ends the campaign is not deleted; messages of it may change.
SELECT id FROM campaign WHERE organisation_id = $1 AND id = $2 AND test_of IS NULL FOR KEY SHARE

-- name: keep_content
-- Until the transaction ends the content stays as it is.
SELECT t.content_hash, t.compiled
FROM campaign_content t
JOIN campaign c ON c.id = t.campaign_id
WHERE c.organisation_id = $1 AND c.id = $2 AND c.test_of IS NULL
FOR SHARE OF t

-- name: lock_organisation
-- Test sends of an organisation are made one after another, so that their number holds.
SELECT id FROM organisation WHERE id = $1 FOR NO KEY UPDATE

-- name: count_under_way
-- What senders still have to do with; a receipt may be awaited for long.
SELECT count(*)::int FROM campaign
WHERE organisation_id = $1 AND holds_channel AND test_of IS NOT NULL AND queued + sending > 0

-- name: insert_test_send
-- As a campaign is after its first run has begun (begin_run).
INSERT INTO campaign (id, organisation_id, channel, name, missing_variable_policy, status, holds_channel, queued, total,
                      run, start_time, undispatched, segments_mean, test_of)
SELECT $1, organisation_id, channel, name, missing_variable_policy, 3, true, $3, $3, 1, now(), $3, $4, id
FROM campaign
WHERE id = $2

-- name: insert_test_content
INSERT INTO campaign_content (campaign_id, content_hash, content, columns, compiled, compiled_report)
SELECT $1, $3, $4::jsonb, $5::jsonb, $6, compiled_report
FROM campaign_content
WHERE campaign_id = $2

-- name: insert_test_messages
WITH contacts AS (
    INSERT INTO contact (campaign_id, number, recipient, recipient_hash, variables)
    SELECT $1, r.number, r.recipient, r.recipient_hash, $4::text[]
    FROM unnest($2::text[], $3::bytea[]) WITH ORDINALITY AS r (recipient, recipient_hash, number)
    RETURNING campaign_id, number
)
INSERT INTO message (campaign_id, number, status) SELECT campaign_id, number, 2 FROM contacts

-- name: get_test_send
-- What fails a whole test (the account, the sender) cancels its messages: nobody can stop one, so each failed by that.
SELECT k.test_of, k.create_time, c.recipient, m.update_time, m.provider_message_id,
       CASE WHEN m.status = 10 AND k.failure_reason IS NOT NULL THEN 8 ELSE m.status END AS status,
       CASE WHEN m.status = 10 THEN k.failure_reason ELSE m.failure_reason END AS failure_reason,
       CASE WHEN m.status = 10 THEN k.failure_code ELSE m.provider_code END AS provider_code
FROM campaign k
JOIN message m ON m.campaign_id = k.id
JOIN contact c ON c.campaign_id = m.campaign_id AND c.number = m.number
WHERE k.organisation_id = $1 AND k.id = $2 AND k.test_of IS NOT NULL
ORDER BY m.number

-- name: lock_old_test_sends
-- A statement of its own: what is deleted then is all that there is, also of a commit that was under way.
SELECT id FROM campaign
WHERE test_of IS NOT NULL AND create_time < now() - make_interval(days => $1)
ORDER BY id
LIMIT $2
FOR UPDATE SKIP LOCKED

-- name: lock_test_sends_of
SELECT id FROM campaign WHERE test_of = $1 ORDER BY id LIMIT $2 FOR UPDATE

-- name: delete_test_sends
-- The content goes with the campaign's row.
WITH contacts AS (
    DELETE FROM contact WHERE campaign_id = ANY ($1::uuid[])
), messages AS (
    DELETE FROM message WHERE campaign_id = ANY ($1::uuid[])
), unknown AS (
    DELETE FROM unknown_attempt WHERE campaign_id = ANY ($1::uuid[])
), log AS (
    DELETE FROM change_log WHERE campaign_id = ANY ($1::uuid[])
)
DELETE FROM campaign WHERE id = ANY ($1::uuid[]) AND test_of IS NOT NULL
