-- name: changes_after
-- Whole commits, until their message changes are $4 or more; $3 commits at most.
SELECT revision, commit_time, campaign_status, counts, numbers, statuses, failure_reasons, attempts
FROM (
    SELECT *, sum(cardinality(numbers)) OVER (
        ORDER BY revision ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS changes_before
    FROM (
        SELECT * FROM change_log WHERE campaign_id = $1 AND revision > $2 ORDER BY revision LIMIT $3
    ) AS following
) AS measured
WHERE coalesce(changes_before, 0) < $4
ORDER BY revision

-- name: position
SELECT revision, log_pruned_through FROM campaign WHERE id = $1 AND organisation_id = $2 AND test_of IS NULL

-- name: campaign_exists
-- Also a test send, which whoever made it waits for (usecases/get_test_send).
SELECT true FROM campaign WHERE id = $1

-- name: ended_lately
-- Longer than a look can be late: who has been told of a campaign's end is remembered, so seeing it again is harmless.
SELECT id FROM campaign
WHERE organisation_id = $1 AND test_of IS NULL AND end_time > now() - interval '60 seconds'
ORDER BY id
