-- Recipients that opted out. A row with `suppressed` false remembers when its recipient opted in again, so that an older
-- event can't undo it; callers see none of those. Events that senders tell of: delivery.sql, opt_out.

-- name: list_suppressions
-- Newest first, those after ($3, $4, $5), NULL: from the first; $2 NULL: both channels. In two parts, each read along the index to where its
-- page ends: an import gives 300,000 of them the same time.
SELECT channel, recipient_hash, recipient, source, event_time
FROM (
    (
        SELECT channel, recipient_hash, recipient, source, event_time
        FROM suppression
        WHERE organisation_id = $1 AND suppressed AND event_time = $3::timestamptz AND (channel, recipient_hash) > ($4, $5)
          AND ($2::smallint IS NULL OR channel = $2)
        ORDER BY channel, recipient_hash
        LIMIT $6
    )
    UNION ALL
    (
        SELECT channel, recipient_hash, recipient, source, event_time
        FROM suppression
        WHERE organisation_id = $1 AND suppressed AND event_time < coalesce($3, 'infinity') AND ($2::smallint IS NULL OR channel = $2)
        ORDER BY event_time DESC, channel, recipient_hash
        LIMIT $6
    )
) AS following
ORDER BY event_time DESC, channel, recipient_hash
LIMIT $6

-- name: get_suppression
SELECT channel, recipient_hash, recipient, source, event_time
FROM suppression
WHERE organisation_id = $1 AND channel = $2 AND recipient_hash = $3 AND suppressed

-- name: add_suppression
-- One that is there stays as it is. The time never goes back: an opt-in may be of a provider's clock ahead of ours.
INSERT INTO suppression (organisation_id, channel, recipient_hash, suppressed, source, event_time, recipient)
VALUES ($1, $2, $3, true, 'operator', now(), $4)
ON CONFLICT (organisation_id, channel, recipient_hash) DO UPDATE
    SET suppressed = true, source = 'operator', event_time = greatest(now(), suppression.event_time),
        recipient = excluded.recipient
    WHERE NOT suppression.suppressed

-- name: remove_suppression
UPDATE suppression
SET suppressed = false, source = 'operator', event_time = greatest(now(), event_time), recipient = NULL
WHERE organisation_id = $1 AND channel = $2 AND recipient_hash = $3 AND suppressed
RETURNING true

-- name: suppress_erased
INSERT INTO suppression (organisation_id, channel, recipient_hash, suppressed, source, event_time)
VALUES ($1, $2, $3, true, 'erasure', now())
ON CONFLICT (organisation_id, channel, recipient_hash) DO UPDATE
    SET suppressed = true, source = 'erasure', event_time = greatest(now(), suppression.event_time), recipient = NULL

-- name: create_import
-- As the table of contacts, which the import's worker writes for (contacts/copy_format); gone with the transaction.
CREATE TEMPORARY TABLE suppression_import (
    campaign_id    uuid NOT NULL,
    number         integer NOT NULL,
    recipient      text NOT NULL,
    recipient_hash bytea NOT NULL,
    variables      text[] NOT NULL
) ON COMMIT DROP

-- name: add_imported
-- In the order of the key, as whoever else writes several does: two of them wait for each other, and never crosswise.
INSERT INTO suppression (organisation_id, channel, recipient_hash, suppressed, source, event_time, recipient)
SELECT $1, $2, recipient_hash, true, 'operator', now(), recipient
FROM suppression_import
ORDER BY recipient_hash
ON CONFLICT (organisation_id, channel, recipient_hash) DO UPDATE
    SET suppressed = true, source = 'operator', event_time = greatest(now(), suppression.event_time),
        recipient = excluded.recipient
    WHERE NOT suppression.suppressed
