-- Campaigns that callers do not see any more, and what is left of them. Nobody writes rows of such a campaign: whoever
-- changes messages locks the campaign's row first, which is gone; an import holds `contacts <id>` until it ends.

-- name: lock_to_delete
-- Against everybody, also whoever makes a test send of it (KEY SHARE).
SELECT id FROM campaign WHERE organisation_id = $1 AND id = $2 AND test_of IS NULL FOR UPDATE

-- name: remember_deleted
-- With its test sends, which are campaigns as well.
INSERT INTO deleted_campaign (id, organisation_id)
SELECT id, organisation_id FROM campaign WHERE id = $1 OR test_of = $1

-- name: delete_campaign
-- Content, an upload, attachments and test sends' rows go with it.
DELETE FROM campaign WHERE id = $1

-- name: deleted_campaigns
SELECT id FROM deleted_campaign ORDER BY delete_time, id LIMIT $1

-- name: lock_deleted
-- Gives a row when nobody else is at it, and no import that began before the deletion still writes.
SELECT id FROM deleted_campaign
WHERE id = $1 AND pg_try_advisory_xact_lock(hashtextextended('contacts ' || $1::uuid, 0))
FOR UPDATE SKIP LOCKED

-- name: forget_deleted
DELETE FROM deleted_campaign WHERE id = $1

-- name: first_message
SELECT number FROM message WHERE campaign_id = $1 AND number > $2 ORDER BY number LIMIT 1

-- name: delete_messages
DELETE FROM message WHERE campaign_id = $1 AND number BETWEEN $2 AND $3

-- name: first_contact
SELECT number FROM contact WHERE campaign_id = $1 AND number > $2 ORDER BY number LIMIT 1

-- name: delete_contacts
DELETE FROM contact WHERE campaign_id = $1 AND number BETWEEN $2 AND $3

-- name: first_attempt
SELECT number FROM message_attempt WHERE campaign_id = $1 AND number > $2 ORDER BY number LIMIT 1

-- name: delete_attempts
DELETE FROM message_attempt WHERE campaign_id = $1 AND number BETWEEN $2 AND $3

-- name: first_unknown
SELECT number FROM unknown_attempt WHERE campaign_id = $1 AND number > $2 ORDER BY number LIMIT 1

-- name: delete_unknown
DELETE FROM unknown_attempt WHERE campaign_id = $1 AND number BETWEEN $2 AND $3

-- name: first_problem
SELECT ordinal FROM contact_problem WHERE campaign_id = $1 AND ordinal > $2 ORDER BY ordinal LIMIT 1

-- name: delete_problems
DELETE FROM contact_problem WHERE campaign_id = $1 AND ordinal BETWEEN $2 AND $3

-- name: first_change
SELECT revision FROM change_log WHERE campaign_id = $1 AND revision > $2 ORDER BY revision LIMIT 1

-- name: delete_changes
DELETE FROM change_log WHERE campaign_id = $1 AND revision BETWEEN $2 AND $3

-- name: expired_campaigns
-- That ended, or were never run and last edited or given a file, before so many days. What runs, or is deferred, has not
-- ended.
SELECT id, organisation_id FROM campaign
WHERE test_of IS NULL AND status IN (1, 2, 5, 6, 7) AND (run = 0 OR end_time IS NOT NULL)
  AND coalesce(end_time, CASE WHEN strip_time IS NULL THEN update_time END, import_time, create_time)
      < now() - make_interval(secs => $1 * 86400.0)
  AND NOT EXISTS (
      SELECT FROM upload u
      WHERE u.campaign_id = campaign.id AND u.consent_time >= now() - make_interval(secs => $1 * 86400.0)
  )
ORDER BY id
LIMIT $2

-- name: lock_expired
SELECT id FROM campaign
WHERE id = $1 AND test_of IS NULL AND status IN (1, 2, 5, 6, 7) AND (run = 0 OR end_time IS NOT NULL)
  AND coalesce(end_time, CASE WHEN strip_time IS NULL THEN update_time END, import_time, create_time)
      < now() - make_interval(secs => $2 * 86400.0)
  AND NOT EXISTS (
      SELECT FROM upload u
      WHERE u.campaign_id = campaign.id AND u.consent_time >= now() - make_interval(secs => $2 * 86400.0)
  )
FOR UPDATE SKIP LOCKED

-- name: campaigns_to_strip
-- That ended, or got their contacts, or the file for them, before so many days. (Stripping a draft is a change of it, so
-- `update_time` won't do.)
SELECT id FROM campaign
WHERE test_of IS NULL AND strip_time IS NULL AND status IN (1, 2, 5, 6, 7) AND (run = 0 OR end_time IS NOT NULL)
  AND CASE
      WHEN total > 0 THEN coalesce(end_time, import_time, create_time)
      ELSE (SELECT max(u.consent_time) FROM upload u WHERE u.campaign_id = campaign.id)
  END < now() - make_interval(secs => $1 * 86400.0)
ORDER BY id
LIMIT $2

-- name: lock_to_strip
SELECT id FROM campaign
WHERE id = $1 AND strip_time IS NULL AND status IN (1, 2, 5, 6, 7) AND (run = 0 OR end_time IS NOT NULL)
  AND CASE
      WHEN total > 0 THEN coalesce(end_time, import_time, create_time)
      ELSE (SELECT max(u.consent_time) FROM upload u WHERE u.campaign_id = campaign.id)
  END < now() - make_interval(secs => $2 * 86400.0)
FOR UPDATE SKIP LOCKED

-- name: set_stripped
-- Contacts can still be imported where there were none.
UPDATE campaign SET strip_time = now() WHERE id = $1 AND total > 0
