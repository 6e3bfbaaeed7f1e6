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

-- name: campaign_versions
-- Of all campaigns of an organisation, as little as tells which of them changed: every update of a row gives it another xmin.
SELECT id, xmin::text::bigint AS version, channel, status
FROM campaign WHERE organisation_id = $1 AND test_of IS NULL

-- name: campaign_rows
SELECT c.*, c.xmin::text::bigint AS row_version FROM campaign c
WHERE c.organisation_id = $1 AND c.id = ANY ($2::uuid[]) AND c.test_of IS NULL

-- name: campaign_contents
-- Without the bodies: they can be megabytes, and a watcher of all campaigns is not told them.
SELECT campaign_id, content - ARRAY['body', 'html', 'mjml', 'blocks', 'text'] AS content, compiled_report, columns, problems
FROM campaign_content WHERE campaign_id = ANY ($1::uuid[])
