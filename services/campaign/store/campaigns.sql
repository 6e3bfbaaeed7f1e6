-- What callers may ask for by id, list or count leaves test sends out (test_of): to them there are none here. Statements
-- without that condition are for a campaign that one of these has found.

-- name: get_campaign
SELECT c.*, t.content, t.content_hash, t.compiled_report, t.columns, t.problems
FROM campaign c
JOIN campaign_content t ON t.campaign_id = c.id
WHERE c.organisation_id = $1 AND c.id = $2 AND c.test_of IS NULL

-- name: lock_campaign
-- A statement of its own: one that locks and joins would show the content as it was before it waited for the lock.
SELECT id FROM campaign WHERE organisation_id = $1 AND id = $2 AND test_of IS NULL FOR NO KEY UPDATE

-- name: list_campaigns
-- Ids are UUIDv7: their order is that of creation. NULL or empty: no filter. An email has up to two megabytes: no more
-- are read when those before have $7 bytes; `matching` tells how many there would be.
WITH matching AS (
    SELECT c.id
    FROM campaign c
    WHERE c.organisation_id = $1 AND c.test_of IS NULL
      AND ($2::smallint IS NULL OR c.channel = $2)
      AND (cardinality($3::smallint[]) = 0 OR c.status = ANY ($3))
      AND ($4 = '' OR strpos(casefold(c.name COLLATE pg_unicode_fast), casefold($4 COLLATE pg_unicode_fast)) > 0)
      AND ($5::uuid IS NULL OR c.id < $5)
    ORDER BY c.id DESC
    LIMIT $6
), measured AS (
    SELECT m.id, count(*) OVER () AS matching,
           sum(octet_length(t.content::text)) OVER (
               ORDER BY m.id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
           ) AS bytes_before
    FROM matching m
    JOIN campaign_content t ON t.campaign_id = m.id
)
SELECT c.*, t.content, t.content_hash, t.compiled_report, t.columns, t.problems, m.matching
FROM measured m
JOIN campaign c ON c.id = m.id
JOIN campaign_content t ON t.campaign_id = m.id
WHERE coalesce(m.bytes_before, 0) < $7
ORDER BY c.id DESC

-- name: insert_campaign
INSERT INTO campaign (id, organisation_id, channel, name, description, missing_variable_policy, status)
VALUES ($1, $2, $3, $4, $5, $6, $7)

-- name: insert_content
INSERT INTO campaign_content (campaign_id, content_hash, content, problems)
VALUES ($1, $2, $3::jsonb, $4::jsonb)

-- name: update_campaign
UPDATE campaign
SET name = $2, description = $3, missing_variable_policy = $4, status = $5, version = version + 1, update_time = now()
WHERE id = $1

-- name: update_content
UPDATE campaign_content
SET content_hash = $2, content = $3::jsonb, problems = $4::jsonb
WHERE campaign_id = $1

-- name: set_compiled
UPDATE campaign_content SET compiled = $2, compiled_report = $3::jsonb WHERE campaign_id = $1

-- name: get_compiled
SELECT compiled FROM campaign_content WHERE campaign_id = $1

-- name: set_content_hash
UPDATE campaign_content SET content_hash = $2 WHERE campaign_id = $1

-- name: attachment_keys
SELECT id, sha256 FROM attachment WHERE campaign_id = $1 ORDER BY id

-- name: attachments_bytes
SELECT coalesce(sum(size_bytes), 0)::bigint FROM attachment WHERE campaign_id = $1

-- name: set_status
UPDATE campaign SET status = $2, update_time = now() WHERE id = $1

-- name: set_edited
UPDATE campaign SET version = version + 1, update_time = now() WHERE id = $1

-- name: begin_run
-- Messages are stored as QUEUED from the import on and shown as WAITING while the campaign has not been run: a run
-- rewrites one row, not all of its messages.
UPDATE campaign
SET status = 3, holds_channel = true, run = run + 1, queued = queued + waiting, waiting = 0,
    start_time = now(), stop_time = NULL, end_time = NULL, update_time = now(),
    failure_reason = NULL, failure_text = NULL, failure_code = NULL,
    segments_mean = $2, dispatch_epoch = 0, dispatched_through = 0, undispatched = queued + waiting, dispatch_time = NULL, claim_time = NULL
WHERE id = $1
RETURNING run

-- name: log_change
-- The next revision, with the counts and the status as they are now and no single message.
WITH changed AS (
    UPDATE campaign SET revision = revision + 1, update_time = now() WHERE id = $1
    RETURNING *
)
INSERT INTO change_log (campaign_id, revision, campaign_status, counts, numbers, statuses, failure_reasons, attempts)
SELECT id, revision, status,
       ARRAY[waiting, queued, sending, sent, retrying, delivered, assumed_delivered, failed, opted_out, cancelled],
       '{}', '{}', '{}', '{}'
FROM changed
RETURNING revision

-- name: insert_acceptance
INSERT INTO disclaimer_acceptance (campaign_id, run, organisation_id, version, accepted_by)
VALUES ($1, $2, $3, $4, $5)

-- name: channel_holder
SELECT id FROM campaign WHERE organisation_id = $1 AND channel = $2 AND holds_channel AND test_of IS NULL

-- name: sample_variables
SELECT variables FROM contact WHERE campaign_id = $1 AND number = ANY ($2::int[])

-- name: get_variables
SELECT variables FROM contact WHERE campaign_id = $1 AND number = $2

-- name: contacts_after
-- In the order of their numbers, a batch at a time: no snapshot is held over the whole of a long estimate.
SELECT c.number, c.variables, s.recipient_hash IS NOT NULL OR c.recipient = '' AS suppressed
FROM contact c
LEFT JOIN suppression s
    ON s.organisation_id = $2 AND s.channel = $3 AND s.recipient_hash = c.recipient_hash AND s.suppressed
WHERE c.campaign_id = $1 AND c.number > $4
ORDER BY c.number
LIMIT $5
