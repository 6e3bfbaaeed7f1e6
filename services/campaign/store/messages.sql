-- A message row is QUEUED from the import on; while its campaign has not been run it is shown as WAITING. A queued
-- message belongs to the campaign's latest run, whichever run its row was last written in. Messages of test sends are in test_sends.sql.

-- name: get_message
SELECT m.number, m.failure_reason, m.segments, m.attempt, m.claim_time, m.provider_message_id, m.provider_code,
       CASE WHEN k.run = 0 AND m.status = 2 THEN 1 ELSE m.status END AS status,
       CASE WHEN m.status = 2 THEN k.run ELSE m.run END AS run,
       CASE WHEN m.status = 2 THEN greatest(m.update_time, k.start_time) ELSE m.update_time END AS update_time,
       c.recipient, c.variables
FROM campaign k
JOIN message m ON m.campaign_id = k.id
JOIN contact c ON c.campaign_id = m.campaign_id AND c.number = m.number
WHERE k.organisation_id = $1 AND k.id = $2 AND k.test_of IS NULL AND m.number = $3

-- name: list_messages
SELECT m.number, m.failure_reason, m.segments, m.attempt, m.claim_time, m.provider_message_id, m.provider_code,
       CASE WHEN k.run = 0 AND m.status = 2 THEN 1 ELSE m.status END AS status,
       CASE WHEN m.status = 2 THEN k.run ELSE m.run END AS run,
       CASE WHEN m.status = 2 THEN greatest(m.update_time, k.start_time) ELSE m.update_time END AS update_time,
       c.recipient, c.variables
FROM campaign k
JOIN message m ON m.campaign_id = k.id
JOIN contact c ON c.campaign_id = m.campaign_id AND c.number = m.number
WHERE k.organisation_id = $1 AND k.id = $2 AND k.test_of IS NULL AND m.number > $3
  AND (cardinality($4::smallint[]) = 0 OR CASE WHEN k.run = 0 AND m.status = 2 THEN 1 ELSE m.status END = ANY ($4))
  AND (cardinality($5::smallint[]) = 0 OR m.failure_reason = ANY ($5))
  AND ($6::bytea IS NULL OR c.recipient_hash = $6)
  AND ($7::int IS NULL OR CASE WHEN m.status = 2 THEN k.run ELSE m.run END = $7)
ORDER BY m.number
LIMIT $8
