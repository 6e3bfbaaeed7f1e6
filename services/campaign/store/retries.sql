-- All of these run in a transaction that holds the campaign's row.

-- name: stop_run
UPDATE campaign SET stop_time = now() WHERE id = $1

-- name: count_retryable
-- $2: statuses. $3: reasons of the failed ones; none: any. $4: reasons after which a retry makes no sense.
SELECT count(*) FILTER (WHERE m.failure_reason IS NULL OR m.failure_reason <> ALL ($4::smallint[]))::int AS retryable,
       count(*) FILTER (WHERE m.failure_reason = ANY ($4::smallint[]))::int AS pointless
FROM message m
WHERE m.campaign_id = $1 AND m.status = ANY ($2::smallint[])
  AND (m.failure_reason IS NULL OR cardinality($3::smallint[]) = 0 OR m.failure_reason = ANY ($3))

-- name: pick_retryable
-- The next numbers after $5 of those that `count_retryable` counts as such.
SELECT m.number
FROM message m
WHERE m.campaign_id = $1 AND m.status = ANY ($2::smallint[])
  AND (m.failure_reason IS NULL OR cardinality($3::smallint[]) = 0 OR m.failure_reason = ANY ($3))
  AND (m.failure_reason IS NULL OR m.failure_reason <> ALL ($4::smallint[]))
  AND m.number > $5
ORDER BY m.number
LIMIT $6

-- name: chosen_messages
SELECT number, status, failure_reason FROM message WHERE campaign_id = $1 AND number = ANY ($2::int[]) ORDER BY number

-- name: queue_again
-- FAILED and CANCELLED messages of these numbers become QUEUED: one revision. What came of an attempt is kept beside;
-- that of a cancelled message never left, or is kept already. The attempt's number stays: the next claim raises it.
-- A late report about this one changes what is kept of it; that it arrived is seen before that claim.
WITH picked AS (
    SELECT m.*
    FROM unnest($2::int[]) AS u (number)
    JOIN message m ON m.campaign_id = $1 AND m.number = u.number AND m.status IN (8, 10)
), kept AS (
    INSERT INTO message_attempt (campaign_id, number, attempt, run, status, failure_reason, claim_time, update_time,
                                 provider_message_id, provider_code, segments)
    SELECT campaign_id, number, attempt, run, status, failure_reason, claim_time, update_time, provider_message_id,
           provider_code, segments
    FROM picked
    WHERE status = 8 AND attempt > 0
    ON CONFLICT DO NOTHING
), queued AS (
    UPDATE message m
    SET status = 2, failure_reason = NULL, provider_message_id = NULL, provider_code = NULL, segments = 0,
        claim_time = NULL, claimed_by = NULL, update_time = now()
    FROM picked p
    WHERE m.campaign_id = $1 AND m.number = p.number
    RETURNING m.number, m.attempt, p.status AS old_status
), sums AS (
    SELECT count(*)::int AS messages, (count(*) FILTER (WHERE old_status = 8))::int AS failed,
           (count(*) FILTER (WHERE old_status = 10))::int AS cancelled,
           array_agg(number ORDER BY number) AS numbers, array_agg(attempt ORDER BY number) AS attempts
    FROM queued
), changed AS (
    UPDATE campaign c
    SET queued = c.queued + s.messages, failed = c.failed - s.failed, cancelled = c.cancelled - s.cancelled,
        undispatched = c.undispatched + s.messages, revision = c.revision + 1, update_time = now()
    FROM sums s
    WHERE c.id = $1 AND s.messages > 0
    RETURNING c.*
)
INSERT INTO change_log (campaign_id, revision, campaign_status, counts, numbers, statuses, failure_reasons, attempts)
SELECT c.id, c.revision, c.status,
       ARRAY[c.waiting, c.queued, c.sending, c.sent, c.retrying, c.delivered, c.assumed_delivered, c.failed,
             c.opted_out, c.cancelled],
       s.numbers, array_fill(2::smallint, ARRAY[s.messages]), array_fill(0::smallint, ARRAY[s.messages]), s.attempts
FROM changed c, sums s
RETURNING cardinality(numbers)
