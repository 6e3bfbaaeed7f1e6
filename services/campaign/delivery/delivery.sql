-- Every statement that changes messages runs in a transaction that holds the campaign's row (lock_campaign).
-- A test send is a campaign here like any other: no statement leaves it out.

-- name: lock_campaign
SELECT organisation_id, channel, status, run, revision, stop_time IS NOT NULL AS stopped,
       failure_reason IS NOT NULL AS failed, dispatch_epoch, dispatched_through, undispatched, segments_mean,
       waiting, queued, sending, sent, retrying, delivered, assumed_delivered, failed AS failed_count, opted_out,
       cancelled, end_time IS NOT NULL AS ended,
       extract(epoch FROM now() - dispatch_time)::float8 AS since_dispatch_seconds,
       extract(epoch FROM now() - claim_time)::float8 AS since_claim_seconds
FROM campaign
WHERE id = $1
FOR NO KEY UPDATE

-- name: claim_messages
-- $9: the answer to a claim is one message of the stream, so it ends with the contact whose values reach so many bytes.
WITH ahead AS (
    -- Nobody is left to send to where the contact was erased, or its data removed with age.
    SELECT m.number, c.recipient, c.recipient_hash, c.variables,
           s.recipient_hash IS NOT NULL OR c.recipient = '' AS suppressed,
           $5::int > 1 AND EXISTS (
               SELECT FROM message_attempt a WHERE a.campaign_id = m.campaign_id AND a.number = m.number
           ) AS is_retry,
           octet_length(array_to_string(c.variables, '')) AS size_bytes,
           sum(octet_length(array_to_string(c.variables, ''))) OVER (ORDER BY m.number) AS through_bytes
    FROM message m
    JOIN contact c ON c.campaign_id = m.campaign_id AND c.number = m.number
    LEFT JOIN suppression s
        ON s.organisation_id = $7 AND s.channel = $8 AND s.recipient_hash = c.recipient_hash AND s.suppressed
    WHERE m.campaign_id = $1 AND m.number BETWEEN $2 AND $3 AND m.status = 2
      -- A process known to be dead gets nothing: what it had has been handed back already.
      AND NOT EXISTS (SELECT FROM ended_instance e WHERE e.instance_id = $6)
    ORDER BY m.number
    LIMIT $4
), picked AS (
    SELECT * FROM ahead WHERE through_bytes - size_bytes < $9
)
UPDATE message m
SET status = CASE WHEN p.suppressed THEN 9 ELSE 3 END,
    run = $5,
    attempt = m.attempt + CASE WHEN p.suppressed THEN 0 ELSE 1 END,
    claim_time = now(), update_time = now(), claimed_by = $6,
    provider_message_id = NULL, provider_code = NULL, segments = 0
FROM picked p
WHERE m.campaign_id = $1 AND m.number = p.number
RETURNING m.number, m.attempt, m.status, p.recipient, p.recipient_hash, p.variables, p.is_retry, p.size_bytes

-- name: apply_reports
-- $9: permitted edges as source * 100 + target; a FAILED source with a reason as reason * 10000 + 800 + target.
-- late_status: what the report means for a message that was given up as UNCONFIRMED.
-- A report that changes no status may still bring the provider's id or the segments.
UPDATE message m
SET status = CASE
        WHEN m.status * 100 + r.status = ANY ($9::int[]) THEN r.status
        WHEN m.failure_reason * 10000 + m.status * 100 + r.late_status = ANY ($9::int[]) THEN r.late_status
        ELSE m.status END,
    failure_reason = CASE
        WHEN m.status * 100 + r.status = ANY ($9::int[])
          OR m.failure_reason * 10000 + m.status * 100 + r.late_status = ANY ($9::int[]) THEN r.failure_reason
        ELSE m.failure_reason END,
    provider_code = CASE
        WHEN m.status = 8 AND m.status * 100 + r.status = ANY ($9::int[]) THEN r.provider_code -- it did not fail
        WHEN m.status * 100 + r.status = ANY ($9::int[])
          OR m.failure_reason * 10000 + m.status * 100 + r.late_status = ANY ($9::int[])
        THEN coalesce(r.provider_code, m.provider_code)
        ELSE m.provider_code END,
    provider_message_id = coalesce(m.provider_message_id, r.provider_message_id),
    segments = greatest(m.segments, r.segments),
    update_time = CASE
        WHEN m.status * 100 + r.status = ANY ($9::int[])
          OR m.failure_reason * 10000 + m.status * 100 + r.late_status = ANY ($9::int[]) THEN now()
        ELSE m.update_time END
FROM unnest($2::int[], $3::int[], $4::smallint[], $5::smallint[], $6::smallint[], $7::text[], $8::text[], $10::smallint[])
     AS r (number, attempt, status, late_status, failure_reason, provider_code, provider_message_id, segments)
WHERE m.campaign_id = $1 AND m.number = r.number AND m.attempt = r.attempt
  AND (m.status * 100 + r.status = ANY ($9::int[])
    OR m.failure_reason * 10000 + m.status * 100 + r.late_status = ANY ($9::int[])
    OR (m.provider_message_id IS NULL AND r.provider_message_id IS NOT NULL)
    OR m.segments < r.segments)
RETURNING m.number, m.attempt, old.status AS old_status, new.status AS new_status,
          coalesce(new.failure_reason, 0)::smallint AS failure_reason

-- name: apply_reports_to_kept_attempts
-- The same reports for attempts that a retry has followed, along the same edges.
UPDATE message_attempt a
SET status = coalesce(r.target, a.status),
    failure_reason = CASE WHEN r.target IS NULL THEN a.failure_reason ELSE r.failure_reason END,
    provider_code = CASE
        WHEN r.target IS NULL THEN a.provider_code
        WHEN a.status = 8 AND r.target <> 8 THEN r.provider_code
        ELSE coalesce(r.provider_code, a.provider_code) END,
    provider_message_id = coalesce(a.provider_message_id, r.provider_message_id),
    segments = greatest(a.segments, r.segments),
    update_time = CASE WHEN r.target IS NULL THEN a.update_time ELSE now() END
FROM (
    SELECT r.*,
           CASE WHEN k.status * 100 + r.status = ANY ($9::int[]) THEN r.status
                WHEN k.failure_reason * 10000 + k.status * 100 + r.late_status = ANY ($9::int[]) THEN r.late_status
           END AS target
    FROM unnest($2::int[], $3::int[], $4::smallint[], $5::smallint[], $6::smallint[], $7::text[], $8::text[],
                $10::smallint[])
         AS r (number, attempt, status, late_status, failure_reason, provider_code, provider_message_id, segments)
    JOIN message_attempt k ON k.campaign_id = $1 AND k.number = r.number AND k.attempt = r.attempt
) AS r
WHERE a.campaign_id = $1 AND a.number = r.number AND a.attempt = r.attempt
  AND (r.target IS NOT NULL OR (a.provider_message_id IS NULL AND r.provider_message_id IS NOT NULL))

-- name: settle_arrived
-- Queued again by a retry, and by now it is known that an earlier attempt arrived: nothing is sent once more.
UPDATE message m
SET status = a.status, claim_time = a.claim_time, update_time = now(),
    provider_message_id = a.provider_message_id, provider_code = a.provider_code, segments = a.segments
FROM (
    SELECT DISTINCT ON (number) * FROM message_attempt
    WHERE campaign_id = $1 AND number BETWEEN $2 AND $3 AND status IN (6, 7)
    ORDER BY number, status
) AS a
WHERE m.campaign_id = $1 AND m.number = a.number AND m.status = 2
RETURNING m.number, m.attempt, old.status AS old_status, new.status AS new_status, 0::smallint AS failure_reason

-- name: note_unknown_attempts
-- $5: the status that the messages must have: SENDING, or SENT when nothing is heard of them.
INSERT INTO unknown_attempt (campaign_id, number, attempt, next_look_up_time)
SELECT m.campaign_id, m.number, m.attempt, now() + make_interval(secs => $4)
FROM unnest($2::int[], $3::int[]) AS u (number, attempt)
JOIN message m ON m.campaign_id = $1 AND m.number = u.number AND m.attempt = u.attempt AND m.status = $5
ON CONFLICT (campaign_id, number) DO UPDATE
    SET attempt = excluded.attempt, unknown_time = now(), look_ups = 0, next_look_up_time = excluded.next_look_up_time
    WHERE unknown_attempt.attempt < excluded.attempt

-- name: note_no_news
-- SMS: the provider has been asked for these accepted messages and has no receipt either; it is not asked again.
UPDATE unknown_attempt u
SET next_look_up_time = 'infinity'
FROM unnest($2::int[], $3::int[]) AS n (number, attempt)
JOIN message m ON m.campaign_id = $1 AND m.number = n.number AND m.attempt = n.attempt AND m.status = 4
WHERE u.campaign_id = $1 AND u.number = n.number AND u.attempt = n.attempt

-- name: release_unknown_attempts
-- What may have gone out is no instance's any more: whoever ends that instance, and however little is known of it
-- then, must not hand it back. (A claim that is only overdue stays with its instance, whose journal may know more.)
UPDATE message m
SET claimed_by = NULL
FROM unnest($2::int[], $3::int[]) AS u (number, attempt)
WHERE m.campaign_id = $1 AND m.number = u.number AND m.attempt = u.attempt AND m.status = 3

-- name: hand_back_instance
UPDATE message m
SET status = 2, update_time = now()
WHERE m.campaign_id = $1 AND m.status = 3 AND m.claimed_by = $2
  AND NOT EXISTS (
      SELECT FROM unnest($3::int[], $4::int[]) AS b (number, attempt) WHERE b.number = m.number AND b.attempt = m.attempt
  )
RETURNING m.number, m.attempt, old.status AS old_status, new.status AS new_status, 0::smallint AS failure_reason

-- name: end_instance
INSERT INTO ended_instance (instance_id) VALUES ($1) ON CONFLICT DO NOTHING

-- name: campaigns_in_progress
SELECT id FROM campaign WHERE holds_channel

-- name: record_changes
WITH changed AS (
    UPDATE campaign
    SET waiting = $2, queued = $3, sending = $4, sent = $5, retrying = $6, delivered = $7, assumed_delivered = $8,
        failed = $9, opted_out = $10, cancelled = $11,
        status = $12::smallint, holds_channel = ($12::smallint = 3), revision = revision + 1, update_time = now(),
        claim_time = CASE WHEN $13 THEN now() ELSE claim_time END,
        end_time = CASE WHEN $14 THEN now() ELSE end_time END
    WHERE id = $1
    RETURNING revision
), resolved AS (
    DELETE FROM unknown_attempt WHERE campaign_id = $1 AND number = ANY ($15::int[])
)
INSERT INTO change_log (campaign_id, revision, campaign_status, counts, numbers, statuses, failure_reasons, attempts)
SELECT $1, revision, $12::smallint, ARRAY[$2, $3, $4, $5, $6, $7, $8, $9, $10, $11]::int[], $16::int[], $17::smallint[],
       $18::smallint[], $19::int[]
FROM changed
RETURNING revision

-- name: suppress_contacts
-- In the order of the key, as opt_out does it: two batches about the same recipients wait for each other.
-- An erased contact has no hash of anybody (store/erasures).
INSERT INTO suppression (organisation_id, channel, recipient_hash, suppressed, source, event_time, recipient)
SELECT DISTINCT ON (c.recipient_hash)
       $2::uuid, $3::smallint, c.recipient_hash, true, 'provider', now(), nullif(c.recipient, '')
FROM contact c
WHERE c.campaign_id = $1 AND c.number = ANY ($4::int[])
  AND c.recipient_hash <> '\x00000000000000000000000000000000'
ORDER BY c.recipient_hash
ON CONFLICT (organisation_id, channel, recipient_hash) DO UPDATE
    SET suppressed = true, event_time = excluded.event_time,
        source = CASE WHEN suppression.suppressed AND suppression.source = 'erasure' THEN 'erasure'
                      ELSE excluded.source END,
        recipient = CASE WHEN suppression.suppressed AND suppression.source = 'erasure' THEN NULL
                         ELSE coalesce(excluded.recipient, suppression.recipient) END
    WHERE suppression.event_time < excluded.event_time

-- name: opt_out
-- A batch of opt-outs and opt-ins, each of a recipient's hash, or of the recipient of a message: then of a campaign of
-- the same organisation and channel. Of several about one recipient the latest counts, by their times, then their order.
-- The recipient itself is kept where it is told or known of a contact ($9); not of one who opted in again, and not of
-- one who was erased, who stays so until somebody takes the hash off the list.
WITH told AS (
    SELECT o.organisation_id, o.channel, coalesce(o.recipient_hash, c.recipient_hash) AS recipient_hash,
           o.suppressed, o.source, o.event_time, o.position,
           coalesce(o.recipient, nullif(c.recipient, '')) AS recipient
    FROM unnest($1::uuid[], $2::smallint[], $3::bytea[], $4::uuid[], $5::int[], $6::boolean[], $7::text[],
                $8::timestamptz[], $9::text[])
         WITH ORDINALITY
         AS o (organisation_id, channel, recipient_hash, campaign_id, number, suppressed, source, event_time, recipient,
               position)
    JOIN organisation g ON g.id = o.organisation_id
    LEFT JOIN campaign k
        ON k.id = o.campaign_id AND k.organisation_id = o.organisation_id AND k.channel = o.channel
    LEFT JOIN contact c ON c.campaign_id = k.id AND c.number = o.number
), latest AS (
    SELECT DISTINCT ON (organisation_id, channel, recipient_hash) *
    FROM told
    WHERE recipient_hash IS NOT NULL AND recipient_hash <> '\x00000000000000000000000000000000'
    ORDER BY organisation_id, channel, recipient_hash, event_time DESC, position DESC
)
INSERT INTO suppression (organisation_id, channel, recipient_hash, suppressed, source, event_time, recipient)
SELECT l.organisation_id, l.channel, l.recipient_hash, l.suppressed, l.source, l.event_time,
       CASE WHEN l.suppressed THEN coalesce(l.recipient, known.recipient) END
FROM latest l
LEFT JOIN LATERAL (
    -- By hash only, as from an unsubscribe link: any contact of the organisation has the address.
    SELECT c.recipient
    FROM contact c
    JOIN campaign k ON k.id = c.campaign_id AND k.organisation_id = l.organisation_id AND k.channel = l.channel
    WHERE l.suppressed AND l.recipient IS NULL AND c.recipient_hash = l.recipient_hash AND c.recipient <> ''
    LIMIT 1
) AS known ON true
ORDER BY l.organisation_id, l.channel, l.recipient_hash
ON CONFLICT (organisation_id, channel, recipient_hash) DO UPDATE
    SET suppressed = excluded.suppressed, event_time = excluded.event_time,
        source = CASE WHEN excluded.suppressed AND suppression.suppressed AND suppression.source = 'erasure'
                      THEN 'erasure' ELSE excluded.source END,
        recipient = CASE WHEN NOT excluded.suppressed THEN NULL
                         WHEN suppression.suppressed AND suppression.source = 'erasure' THEN NULL
                         ELSE coalesce(excluded.recipient, suppression.recipient) END
    WHERE suppression.event_time <= excluded.event_time

-- name: fail_campaign
UPDATE campaign
SET failure_reason = $2, failure_text = $3, failure_code = $4
WHERE id = $1 AND run = $5 AND failure_reason IS NULL AND holds_channel

-- name: cancel_queued
UPDATE message m
SET status = 10, update_time = now()
FROM (
    SELECT number FROM message WHERE campaign_id = $1 AND status = 2 AND number > $3 ORDER BY number LIMIT $2
) AS picked
WHERE m.campaign_id = $1 AND m.number = picked.number
RETURNING m.number, m.attempt, old.status AS old_status, new.status AS new_status, 0::smallint AS failure_reason

-- name: campaigns_to_cancel
SELECT id FROM campaign WHERE holds_channel AND queued > 0 AND (stop_time IS NOT NULL OR failure_reason IS NOT NULL)

-- name: campaigns_with_sent_sms
SELECT id FROM campaign WHERE holds_channel AND sent > 0 AND channel = 1

-- name: overdue_receipts
-- The provider has been asked (note_no_news), or can't be: nobody answers for as long again, or its id is not known.
SELECT m.number
FROM message m
LEFT JOIN unknown_attempt u ON u.campaign_id = m.campaign_id AND u.number = m.number AND u.attempt = m.attempt
WHERE m.campaign_id = $1 AND m.status = 4 AND m.update_time < now() - make_interval(secs => $2)
  AND (u.next_look_up_time = 'infinity' OR m.provider_message_id IS NULL
    OR m.update_time < now() - make_interval(secs => 2 * $2))
ORDER BY m.number
LIMIT $3

-- name: assume_delivered
UPDATE message m
SET status = 7, update_time = now()
WHERE m.campaign_id = $1 AND m.number = ANY ($2::int[]) AND m.status = 4
  AND m.update_time < now() - make_interval(secs => $3)
RETURNING m.number, m.attempt, old.status AS old_status, new.status AS new_status, 0::smallint AS failure_reason

-- name: campaigns_with_sent_email
-- Nothing of a run is older than the run: while that is young, its messages need not be read.
SELECT id FROM campaign
WHERE holds_channel AND sent > 0 AND channel = 2 AND start_time < now() - make_interval(secs => $1)

-- name: silent_messages
SELECT m.number, m.attempt
FROM message m
WHERE m.campaign_id = $1 AND m.status = 4 AND m.update_time < now() - make_interval(secs => $2)
  AND NOT EXISTS (
      SELECT FROM unknown_attempt u
      WHERE u.campaign_id = m.campaign_id AND u.number = m.number AND u.attempt = m.attempt
  )
ORDER BY m.number
LIMIT $3

-- name: campaigns_with_unsettled_email
-- Also those in ACTIVE_RETRIES, and FAILED ones with deferred messages: all that have not ended (campaign_unfinished).
SELECT id FROM campaign
WHERE run > 0 AND end_time IS NULL AND channel = 2 AND (sent > 0 OR retrying > 0)
  AND start_time < now() - make_interval(secs => $1)

-- name: overdue_emails
SELECT number FROM message
WHERE campaign_id = $1 AND status IN (4, 5) AND update_time < now() - make_interval(secs => $2)
ORDER BY number
LIMIT $3

-- name: time_out
-- A deferral that has no end is TIMED_OUT. What was accepted and never spoken of most likely arrived: UNCONFIRMED.
UPDATE message m
SET status = 8, failure_reason = CASE m.status WHEN 4 THEN 16 ELSE 15 END, update_time = now()
WHERE m.campaign_id = $1 AND m.number = ANY ($2::int[]) AND m.status IN (4, 5)
  AND m.update_time < now() - make_interval(secs => $3)
RETURNING m.number, m.attempt, old.status AS old_status, new.status AS new_status, new.failure_reason

-- name: campaigns_with_sending
SELECT id, channel FROM campaign WHERE holds_channel AND sending > 0

-- name: overdue_claims
SELECT m.number, m.attempt
FROM message m
WHERE m.campaign_id = $1 AND m.status = 3 AND m.claim_time < now() - make_interval(secs => $2)
  AND NOT EXISTS (
      SELECT FROM unknown_attempt u
      WHERE u.campaign_id = m.campaign_id AND u.number = m.number AND u.attempt = m.attempt
  )
ORDER BY m.number
LIMIT $3

-- name: give_up_unknown
UPDATE message m
SET status = 8, failure_reason = 16, update_time = now()
FROM (
    -- Emails that were accepted wait here too, for another limit.
    SELECT u.number, u.attempt
    FROM unknown_attempt u
    JOIN message m ON m.campaign_id = $1 AND m.number = u.number AND m.attempt = u.attempt AND m.status = 3
    WHERE u.campaign_id = $1 AND u.unknown_time < now() - make_interval(secs => $2)
    ORDER BY u.number LIMIT $3
) AS u
WHERE m.campaign_id = $1 AND m.number = u.number AND m.attempt = u.attempt AND m.status = 3
RETURNING m.number, m.attempt, old.status AS old_status, new.status AS new_status, 16::smallint AS failure_reason

-- name: campaigns_with_old_unknown
SELECT c.id
FROM campaign c
WHERE c.id IN (SELECT campaign_id FROM unknown_attempt WHERE unknown_time < now() - make_interval(secs => $1))
  AND c.sending > 0

-- name: campaigns_with_due_look_ups
SELECT c.id, c.organisation_id, c.channel, c.run
FROM campaign c
WHERE c.id IN (SELECT campaign_id FROM unknown_attempt WHERE next_look_up_time <= now())

-- name: look_up_subject
SELECT c.channel, t.content_hash FROM campaign c JOIN campaign_content t ON t.campaign_id = c.id WHERE c.id = $1

-- name: lease_sms_look_ups
-- Twilio's list knows no attempts. Of several messages to one recipient in a campaign, those that are unknown are
-- looked up together, so that one listed message is not taken for two of them; and none while another of them may
-- still be told of by its sender.
WITH due AS (
    SELECT u.number
    FROM unknown_attempt u
    LEFT JOIN message m ON m.campaign_id = u.campaign_id AND m.number = u.number AND m.attempt = u.attempt
    WHERE u.campaign_id = $1 AND u.next_look_up_time <= now() AND m.status IS DISTINCT FROM 4
    ORDER BY u.next_look_up_time
    LIMIT $2
    FOR UPDATE OF u SKIP LOCKED
), together AS (
    SELECT u.number
    FROM unknown_attempt u
    JOIN contact c ON c.campaign_id = $1 AND c.number = u.number
    -- Accepted ones are asked for by their own ids (lease_silent_sms).
    LEFT JOIN message m ON m.campaign_id = u.campaign_id AND m.number = u.number AND m.attempt = u.attempt
    -- Nobody can be looked up who was erased: such an attempt ends by its time limit.
    WHERE u.campaign_id = $1 AND c.recipient <> '' AND m.status IS DISTINCT FROM 4
      AND c.recipient_hash IN (
          SELECT c.recipient_hash FROM due JOIN contact c ON c.campaign_id = $1 AND c.number = due.number
      )
), leased AS (
    -- Twilio's list may lag behind a create: look again and again, ever more rarely.
    UPDATE unknown_attempt u
    SET look_ups = u.look_ups + 1,
        next_look_up_time = now() + make_interval(secs => $3 * power(2, least(u.look_ups, 5)))
    FROM together
    WHERE u.campaign_id = $1 AND u.number = together.number
    RETURNING u.number, u.attempt
), earlier AS (
    -- Messages of attempts that a retry has followed: to this recipient too, and none of them is this attempt's.
    SELECT l.number, array_agg(a.provider_message_id) AS ids
    FROM leased l
    JOIN contact c ON c.campaign_id = $1 AND c.number = l.number
    JOIN contact same ON same.campaign_id = $1 AND same.recipient_hash = c.recipient_hash
    JOIN message_attempt a ON a.campaign_id = $1 AND a.number = same.number AND a.provider_message_id IS NOT NULL
    GROUP BY l.number
), twins AS (
    SELECT l.number,
           array_agg(other.provider_message_id) FILTER (WHERE other.provider_message_id IS NOT NULL) AS ids,
           bool_or(other.status = 3 AND u.number IS NULL) AS under_way
    FROM leased l
    JOIN contact c ON c.campaign_id = $1 AND c.number = l.number
    JOIN contact twin
        ON twin.campaign_id = $1 AND twin.recipient_hash = c.recipient_hash AND twin.number <> l.number
    JOIN message other ON other.campaign_id = $1 AND other.number = twin.number
    LEFT JOIN unknown_attempt u
        ON u.campaign_id = $1 AND u.number = other.number AND u.attempt = other.attempt
    GROUP BY l.number
)
SELECT l.number, l.attempt, c.recipient, c.recipient_hash, c.variables, m.claim_time,
       coalesce(t.ids, '{}') || coalesce(e.ids, '{}') AS other_provider_message_ids
FROM leased l
JOIN message m ON m.campaign_id = $1 AND m.number = l.number AND m.attempt = l.attempt AND m.status = 3
JOIN contact c ON c.campaign_id = $1 AND c.number = l.number
LEFT JOIN twins t ON t.number = l.number
LEFT JOIN earlier e ON e.number = l.number
WHERE t.under_way IS NOT TRUE
ORDER BY m.claim_time, l.number

-- name: lease_silent_sms
-- Accepted (SENT), and no receipt came: looked up by the provider's id, until it answers (note_no_news).
WITH due AS (
    SELECT u.number, m.claim_time, m.provider_message_id
    FROM unknown_attempt u
    JOIN message m ON m.campaign_id = u.campaign_id AND m.number = u.number AND m.attempt = u.attempt
    WHERE u.campaign_id = $1 AND u.next_look_up_time <= now() AND m.status = 4 AND m.provider_message_id IS NOT NULL
    ORDER BY u.next_look_up_time
    LIMIT $2
    FOR UPDATE OF u SKIP LOCKED
), leased AS (
    UPDATE unknown_attempt u
    SET look_ups = u.look_ups + 1, next_look_up_time = now() + make_interval(secs => $3)
    FROM due
    WHERE u.campaign_id = $1 AND u.number = due.number
    RETURNING u.number, u.attempt, due.claim_time, due.provider_message_id
)
SELECT l.number, l.attempt, c.recipient, c.recipient_hash, '{}'::text[] AS variables, l.claim_time,
       '{}'::text[] AS other_provider_message_ids, l.provider_message_id
FROM leased l
JOIN contact c ON c.campaign_id = $1 AND c.number = l.number
ORDER BY l.number

-- name: lease_email_look_ups
-- SendGrid is asked for one attempt by our own id, so other messages to the recipient do not matter. First those that
-- may not have gone out; then accepted ones (SENT) of which nothing is heard, which are looked up far more rarely.
WITH due AS (
    SELECT u.number, m.status
    FROM unknown_attempt u
    LEFT JOIN message m ON m.campaign_id = u.campaign_id AND m.number = u.number AND m.attempt = u.attempt
    WHERE u.campaign_id = $1 AND u.next_look_up_time <= now()
    ORDER BY m.status, u.next_look_up_time
    LIMIT $2
    FOR UPDATE OF u SKIP LOCKED
), leased AS (
    UPDATE unknown_attempt u
    SET look_ups = u.look_ups + 1,
        next_look_up_time = now() + make_interval(
            secs => CASE due.status WHEN 3 THEN $3::float8 ELSE $4::float8 END * power(2, least(u.look_ups, 5))
        )
    FROM due
    WHERE u.campaign_id = $1 AND u.number = due.number
    RETURNING u.number, u.attempt
)
SELECT l.number, l.attempt, c.recipient, c.recipient_hash, c.variables, m.claim_time,
       '{}'::text[] AS other_provider_message_ids
FROM leased l
JOIN message m ON m.campaign_id = $1 AND m.number = l.number AND m.attempt = l.attempt AND m.status IN (3, 4)
JOIN contact c ON c.campaign_id = $1 AND c.number = l.number AND c.recipient <> ''
ORDER BY m.status, m.claim_time, l.number

-- name: get_content
-- Without an email's body and text: senders use what was compiled of them.
SELECT c.organisation_id, c.channel, c.missing_variable_policy, c.test_of IS NOT NULL AS is_test,
       t.content_hash, t.content - ARRAY['html', 'mjml', 'blocks', 'text'] AS content, t.columns, t.compiled
FROM campaign c
JOIN campaign_content t ON t.campaign_id = c.id
WHERE c.id = $1

-- name: content_hash
SELECT content_hash FROM campaign_content WHERE campaign_id = $1

-- name: get_provider_account
SELECT settings, secret FROM provider_account WHERE organisation_id = $1 AND channel = $2

-- name: list_provider_accounts
SELECT organisation_id FROM provider_account WHERE channel = $1 ORDER BY organisation_id

-- name: record_account_check
-- $6: nothing is known of the senders, as before the first check.
UPDATE provider_account
SET sender_addresses = $3, sender_domains = $4, check_fault = $5, check_time = CASE WHEN $6 THEN NULL ELSE now() END
WHERE organisation_id = $1 AND channel = $2
RETURNING true

-- name: get_recipient
SELECT c.recipient
FROM campaign k
JOIN contact c ON c.campaign_id = k.id AND c.number = $2 AND c.recipient <> ''
WHERE k.id = $1

-- name: get_pace
SELECT p.segments_per_second_max
FROM provider_account p
WHERE p.organisation_id = $1 AND p.channel = $2

-- name: next_to_dispatch
SELECT count(*)::int AS messages, max(number) AS last
FROM (
    SELECT number FROM message
    WHERE campaign_id = $1 AND number > $2 AND status = 2
    ORDER BY number
    LIMIT $3
) AS ahead

-- name: record_dispatch
-- $5: seconds of the pace that are left for the next time.
UPDATE campaign
SET dispatch_epoch = $2, dispatched_through = $3, undispatched = $4,
    dispatch_time = now() - make_interval(secs => $5)
WHERE id = $1

-- name: purge_ended_instances
DELETE FROM ended_instance WHERE end_time < now() - interval '1 day'

-- name: campaigns_with_old_log
SELECT id, revision FROM campaign
WHERE status IN (5, 6, 7) AND log_pruned_through < revision AND end_time < now() - make_interval(secs => $1)
LIMIT 10

-- name: prune_log
WITH pruned AS (
    DELETE FROM change_log WHERE campaign_id = $1 AND revision <= $2
)
UPDATE campaign SET log_pruned_through = $2 WHERE id = $1
