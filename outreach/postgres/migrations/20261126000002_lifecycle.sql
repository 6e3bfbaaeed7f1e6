-- migrate:up

-- Attempts that a retry has followed; the latest one is in the message's own row.
CREATE TABLE message_attempt (
    campaign_id         uuid NOT NULL,
    number              integer NOT NULL,
    attempt             integer NOT NULL,
    run                 integer NOT NULL,
    status              smallint NOT NULL CHECK (status BETWEEN 1 AND 10),
    failure_reason      smallint CHECK (failure_reason BETWEEN 1 AND 17),
    claim_time          timestamptz,
    update_time         timestamptz NOT NULL,
    provider_message_id text,
    provider_code       text,
    segments            smallint NOT NULL DEFAULT 0,
    PRIMARY KEY (campaign_id, number, attempt)
);

-- Deleted for callers; what is left of it goes in the background (contacts, messages, change log, …).
CREATE TABLE deleted_campaign (
    id              uuid PRIMARY KEY,
    organisation_id uuid NOT NULL,
    delete_time     timestamptz NOT NULL DEFAULT now()
);

-- Finding a person: in one campaign, and in all of the organisation's. Contacts are written once, and looked up by hash.
CREATE INDEX contact_by_recipient ON contact (recipient_hash, campaign_id);

-- NULL: erased, or told by hash only.
ALTER TABLE suppression ADD COLUMN recipient text;
CREATE INDEX suppression_by_time ON suppression (organisation_id, event_time DESC, channel, recipient_hash) WHERE suppressed;

-- Campaigns whose contacts' data retention has removed.
ALTER TABLE campaign ADD COLUMN strip_time timestamptz;

-- migrate:down
ALTER TABLE campaign DROP COLUMN strip_time;
DROP INDEX suppression_by_time;
ALTER TABLE suppression DROP COLUMN recipient;
DROP INDEX contact_by_recipient;
DROP TABLE deleted_campaign, message_attempt;
