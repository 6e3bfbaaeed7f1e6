-- Through the views of migration 20261126000003 only; services/export's role can read nothing else. COPY has no
-- parameters: asyncpg puts them into the text of the statement, each quoted by the server, wherever a parameter's name
-- stands. So no comment here may name one (a test says so).

-- name: caller_by_key
SELECT organisation_id, role, label FROM export_key WHERE key_hash = $1

-- name: readable
-- Fails when the role can't read what exports need.
SELECT (SELECT count(*) FROM (SELECT FROM export_key LIMIT 1) AS k)
     + (SELECT count(*) FROM (SELECT FROM export_campaign LIMIT 1) AS c)
     + (SELECT count(*) FROM (SELECT FROM export_variables LIMIT 1) AS v)
     + (SELECT count(*) FROM (SELECT FROM export_message LIMIT 1) AS m)

-- name: campaign_head
SELECT c.channel, c.status, c.revision, c.total, v.variable_names,
       ARRAY[c.waiting, c.queued, c.sending, c.sent, c.retrying, c.delivered, c.assumed_delivered, c.failed, c.opted_out,
             c.cancelled] AS counts
FROM export_campaign c
JOIN export_variables v ON v.campaign_id = c.id AND v.organisation_id = c.organisation_id
WHERE c.organisation_id = $1 AND c.id = $2

-- name: campaign_revision
SELECT revision FROM export_campaign WHERE organisation_id = $1 AND id = $2

-- name: copy_messages
-- One text a row, made by a template of all its cells, with the names of statuses and reasons. Numbers are 1…N without
-- gaps: the range bounds what is read. Where the data of contacts were removed their variables may be fewer. A time is
-- spelled as RFC 3339 does but for the T, and with +00 (connections are in UTC, with ISO dates). A safe export marks phone
-- numbers, each of which begins a formula, here: for single ones csv_lines.py is quick enough.
SELECT format($1::text, VARIADIC
    ARRAY[
        m.number::text,
        CASE WHEN $14::bool AND ascii(m.recipient) = ANY ('{61,43,45,64,9,10,13}') THEN '''' || m.recipient
             ELSE m.recipient END,
        ($2::text[])[m.status], ($3::text[])[m.failure_reason], m.provider_code,
        m.provider_message_id, m.run::text, m.attempt::text, m.segments::text,
        overlay(left(m.claim_time::text, -3) || 'Z' PLACING 'T' FROM 11),
        overlay(left(m.update_time::text, -3) || 'Z' PLACING 'T' FROM 11)
    ] || CASE WHEN cardinality(m.variables) < $13::int THEN array_fill(NULL::text, ARRAY[$13::int]) ELSE m.variables END
)
FROM export_message m
WHERE m.organisation_id = $4::uuid AND m.campaign_id = $5::uuid
  AND m.number > $6::int AND m.number <= $7::int AND m.contact_number > $6::int AND m.contact_number <= $7::int
  AND (cardinality($8::smallint[]) = 0 OR m.status = ANY ($8::smallint[]))
  AND (cardinality($9::smallint[]) = 0 OR m.failure_reason = ANY ($9::smallint[]))
  AND ($10::text = '' OR CASE m.channel WHEN 2 THEN lower(m.recipient COLLATE pg_unicode_fast) ELSE m.recipient END = $10::text)
  AND ($11::text = '' OR strpos(casefold(m.recipient COLLATE pg_unicode_fast), casefold($11::text COLLATE pg_unicode_fast)) > 0)
  AND ($12::int = 0 OR m.run = $12::int)
ORDER BY m.number

-- name: count_campaigns
SELECT count(*)::int FROM export_campaign WHERE organisation_id = $1

-- name: next_campaign_ids
-- Newest first: ids are UUIDv7.
SELECT id FROM export_campaign
WHERE organisation_id = $1 AND ($2::uuid IS NULL OR id < $2)
ORDER BY id DESC
LIMIT $3

-- name: copy_campaigns
-- As copy_messages; a range of ids from the oldest to the newest of the step.
SELECT format($1::text, VARIADIC
    ARRAY[
        c.id::text, c.name, c.description, ($2::text[])[c.channel], ($3::text[])[c.status], c.run::text, c.total::text,
        c.waiting::text, c.queued::text, c.sending::text, c.sent::text, c.retrying::text, c.delivered::text,
        c.assumed_delivered::text, c.failed::text, c.opted_out::text, c.cancelled::text,
        overlay(left(c.create_time::text, -3) || 'Z' PLACING 'T' FROM 11),
        overlay(left(c.start_time::text, -3) || 'Z' PLACING 'T' FROM 11),
        overlay(left(c.stop_time::text, -3) || 'Z' PLACING 'T' FROM 11),
        overlay(left(c.end_time::text, -3) || 'Z' PLACING 'T' FROM 11),
        ($4::text[])[c.failure_reason]
    ]
)
FROM export_campaign c
WHERE c.organisation_id = $7::uuid AND c.id BETWEEN $5::uuid AND $6::uuid
  AND ($8::int = 0 OR c.channel = $8::int)
  AND (cardinality($9::smallint[]) = 0 OR c.status = ANY ($9::smallint[]))
  AND ($10::text = '' OR strpos(casefold(c.name COLLATE pg_unicode_fast), casefold($10::text COLLATE pg_unicode_fast)) > 0)
ORDER BY c.id DESC
