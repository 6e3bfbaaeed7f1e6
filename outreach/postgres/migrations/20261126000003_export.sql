-- migrate:up

-- What services/export reads, and all that its role may read: no secret, no template, no hash of a recipient. Every row
-- says whose it is. Test sends are no campaigns to callers, so they are not in any of these. Rights are given at the
-- campaign service's start (services/campaign/export_role.py): a role belongs to the whole server, and the owner of this
-- database may not be allowed to make one.

CREATE VIEW export_key AS
SELECT key_hash, organisation_id, role, label FROM api_key;

CREATE VIEW export_campaign AS
SELECT k.organisation_id, k.id, k.name, k.description, k.channel, k.status, k.revision, k.run, k.total, k.waiting,
       k.queued, k.sending, k.sent, k.retrying, k.delivered, k.assumed_delivered, k.failed, k.opted_out, k.cancelled,
       k.create_time, k.start_time, k.stop_time, k.end_time, k.failure_reason
FROM campaign k
WHERE k.test_of IS NULL;

-- The names of a campaign's custom variables, in the order of their values.
CREATE VIEW export_variables AS
SELECT k.organisation_id, k.id AS campaign_id,
       ARRAY(
           SELECT c.value ->> 'variable_name'
           FROM jsonb_array_elements(t.columns) WITH ORDINALITY AS c (value, place)
           WHERE c.value ->> 'role' = '2'
           ORDER BY c.place
       ) AS variable_names
FROM campaign k
JOIN campaign_content t ON t.campaign_id = k.id
WHERE k.test_of IS NULL;

-- As callers see messages (services/campaign/store/messages.sql): WAITING until the first run. contact_number is the
-- number once more: a range has to be asked of both, or one of the two tables is read by single look-ups.
CREATE VIEW export_message AS
SELECT k.organisation_id, m.campaign_id, m.number, c.number AS contact_number, k.channel, c.recipient, c.variables,
       CASE WHEN k.run = 0 AND m.status = 2 THEN 1 ELSE m.status END AS status,
       m.failure_reason, m.provider_code, m.provider_message_id,
       CASE WHEN m.status = 2 THEN k.run ELSE m.run END AS run,
       m.attempt, m.segments, m.claim_time,
       CASE WHEN m.status = 2 THEN greatest(m.update_time, k.start_time) ELSE m.update_time END AS update_time
FROM campaign k
JOIN message m ON m.campaign_id = k.id
JOIN contact c ON c.campaign_id = m.campaign_id AND c.number = m.number
WHERE k.test_of IS NULL;

-- migrate:down
DROP VIEW export_message, export_variables, export_campaign, export_key;
