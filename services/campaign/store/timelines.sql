-- name: kept_attempts
SELECT attempt, run, status, failure_reason, claim_time, update_time, provider_message_id, provider_code, segments
FROM message_attempt
WHERE campaign_id = $1 AND number = $2
ORDER BY attempt

-- name: status_changes
-- Of one message, as far as the log is kept; a batch changes a message at most once.
SELECT l.commit_time, l.statuses[p.position] AS status, l.failure_reasons[p.position] AS failure_reason,
       l.attempts[p.position] AS attempt
FROM change_log l
CROSS JOIN LATERAL (SELECT array_position(l.numbers, $2::int) AS position) p
WHERE l.campaign_id = $1 AND p.position IS NOT NULL
ORDER BY l.revision
LIMIT $3

-- name: first_run_time
-- A run rewrites no message, so the log does not name those that it queues.
SELECT accept_time FROM disclaimer_acceptance WHERE campaign_id = $1 AND run = 1
