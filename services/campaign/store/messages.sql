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

-- name: message_list_head
-- What a list has to know of its campaign, without the template.
SELECT c.channel, c.total, t.columns,
       ARRAY[waiting, queued, sending, sent, retrying, delivered, assumed_delivered, failed, opted_out, cancelled] AS counts
FROM campaign c
JOIN campaign_content t ON t.campaign_id = c.id
WHERE c.organisation_id = $1 AND c.id = $2 AND c.test_of IS NULL

-- name: numbers_of_recipient
-- At most $3, in no order: where one is kept for each of many duplicates there may be as many as contacts.
SELECT number FROM contact WHERE recipient_hash = $1 AND campaign_id = $2 LIMIT $3

-- name: list_messages
-- Numbers are 1…N without gaps, so the range $2…$3 bounds what is read. The first ones that match are found by the message
-- rows alone.
WITH found AS MATERIALIZED (
    SELECT m.number, m.failure_reason, m.segments, m.attempt, m.claim_time, m.provider_message_id, m.provider_code,
           CASE WHEN k.run = 0 AND m.status = 2 THEN 1 ELSE m.status END AS status,
           CASE WHEN m.status = 2 THEN k.run ELSE m.run END AS run,
           CASE WHEN m.status = 2 THEN greatest(m.update_time, k.start_time) ELSE m.update_time END AS update_time
    FROM campaign k
    JOIN message m ON m.campaign_id = k.id
    WHERE k.id = $1 AND m.campaign_id = $1 AND m.number BETWEEN $2 AND $3
      AND (cardinality($4::smallint[]) = 0 OR CASE WHEN k.run = 0 AND m.status = 2 THEN 1 ELSE m.status END = ANY ($4))
      AND (cardinality($5::smallint[]) = 0 OR m.failure_reason = ANY ($5))
      AND ($6::int IS NULL OR CASE WHEN m.status = 2 THEN k.run ELSE m.run END = $6)
    ORDER BY m.number
    LIMIT $7
)
SELECT f.*, c.recipient, c.variables
FROM found f
JOIN contact c ON c.campaign_id = $1 AND c.number = f.number
ORDER BY f.number

-- name: list_messages_of_recipients
-- The same, where the contact decides too: $8 NULL or its hash, $9 empty or a part of its recipient.
WITH named AS MATERIALIZED (
    SELECT c.number, c.recipient, c.variables
    FROM contact c
    WHERE c.campaign_id = $1 AND c.number BETWEEN $2 AND $3
      AND ($8::bytea IS NULL OR c.recipient_hash = $8)
      AND ($9 = '' OR strpos(casefold(c.recipient COLLATE pg_unicode_fast), casefold($9 COLLATE pg_unicode_fast)) > 0)
    ORDER BY c.number
)
SELECT m.number, m.failure_reason, m.segments, m.attempt, m.claim_time, m.provider_message_id, m.provider_code,
       CASE WHEN k.run = 0 AND m.status = 2 THEN 1 ELSE m.status END AS status,
       CASE WHEN m.status = 2 THEN k.run ELSE m.run END AS run,
       CASE WHEN m.status = 2 THEN greatest(m.update_time, k.start_time) ELSE m.update_time END AS update_time,
       n.recipient, n.variables
FROM campaign k
CROSS JOIN named n
JOIN message m ON m.campaign_id = $1 AND m.number = n.number
WHERE k.id = $1
  AND (cardinality($4::smallint[]) = 0 OR CASE WHEN k.run = 0 AND m.status = 2 THEN 1 ELSE m.status END = ANY ($4))
  AND (cardinality($5::smallint[]) = 0 OR m.failure_reason = ANY ($5))
  AND ($6::int IS NULL OR CASE WHEN m.status = 2 THEN k.run ELSE m.run END = $6)
ORDER BY n.number
LIMIT $7

-- name: list_messages_by_number
-- The same for the numbers $8, few, of which those in the range $2…$3 are looked at; $9 as above.
WITH named AS MATERIALIZED (
    SELECT c.number, c.recipient, c.variables
    FROM unnest($8::int[]) AS asked (number)
    JOIN contact c ON c.campaign_id = $1 AND c.number = asked.number
    WHERE asked.number BETWEEN $2 AND $3
      AND ($9 = '' OR strpos(casefold(c.recipient COLLATE pg_unicode_fast), casefold($9 COLLATE pg_unicode_fast)) > 0)
    ORDER BY c.number
)
SELECT m.number, m.failure_reason, m.segments, m.attempt, m.claim_time, m.provider_message_id, m.provider_code,
       CASE WHEN k.run = 0 AND m.status = 2 THEN 1 ELSE m.status END AS status,
       CASE WHEN m.status = 2 THEN k.run ELSE m.run END AS run,
       CASE WHEN m.status = 2 THEN greatest(m.update_time, k.start_time) ELSE m.update_time END AS update_time,
       n.recipient, n.variables
FROM campaign k
CROSS JOIN named n
JOIN message m ON m.campaign_id = $1 AND m.number = n.number
WHERE k.id = $1
  AND (cardinality($4::smallint[]) = 0 OR CASE WHEN k.run = 0 AND m.status = 2 THEN 1 ELSE m.status END = ANY ($4))
  AND (cardinality($5::smallint[]) = 0 OR m.failure_reason = ANY ($5))
  AND ($6::int IS NULL OR CASE WHEN m.status = 2 THEN k.run ELSE m.run END = $6)
ORDER BY n.number
LIMIT $7
