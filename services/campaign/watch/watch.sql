-- name: changes_after
SELECT revision, commit_time, campaign_status, counts, numbers, statuses, failure_reasons, attempts
FROM change_log
WHERE campaign_id = $1 AND revision > $2
ORDER BY revision
LIMIT $3

-- name: position
SELECT revision, log_pruned_through FROM campaign WHERE id = $1 AND organisation_id = $2
