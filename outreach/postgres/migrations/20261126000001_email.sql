-- migrate:up

-- An email template compiled once (outreach.email): what senders get, and what is told of it without reading it all.
ALTER TABLE campaign_content
    ADD COLUMN compiled bytea,  -- CompiledEmail as JSON; NULL: an SMS, or a template that could not be compiled
    ADD COLUMN compiled_report jsonb; -- {html_bytes, text_bytes, names, warnings: [{field, code, text}], sha256 of compiled}

-- A test send is a campaign of its own, which nobody sees as one: it takes the same way, and does not hold the channel.
ALTER TABLE campaign ADD COLUMN test_of uuid REFERENCES campaign (id) ON DELETE CASCADE;
CREATE INDEX campaign_test_sends ON campaign (test_of) WHERE test_of IS NOT NULL;
DROP INDEX campaign_channel_lock;
CREATE UNIQUE INDEX campaign_channel_lock ON campaign (organisation_id, channel) WHERE holds_channel AND test_of IS NULL;
-- What the delivery looks for many times a second: all that is in progress, test sends too.
CREATE INDEX campaign_in_progress ON campaign (organisation_id, channel) WHERE holds_channel;

-- What the time limit of deferrals looks through: campaigns that have been run and have not ended, also in
-- ACTIVE_RETRIES. Neither column changes with a batch (as counts do), so that a batch's update stays heap-only.
CREATE INDEX campaign_unfinished ON campaign (id) WHERE run > 0 AND end_time IS NULL;

-- What a sender found out about the account at its provider.
ALTER TABLE provider_account
    ADD COLUMN sender_addresses text[] NOT NULL DEFAULT '{}',
    ADD COLUMN sender_domains   text[] NOT NULL DEFAULT '{}',
    ADD COLUMN check_fault      text NOT NULL DEFAULT '',
    ADD COLUMN check_time       timestamptz; -- NULL: never checked, so nothing is known of its senders

CREATE TABLE attachment (
    id           uuid PRIMARY KEY,
    campaign_id  uuid NOT NULL REFERENCES campaign (id) ON DELETE CASCADE,
    file_name    text NOT NULL,
    content_type text NOT NULL,
    size_bytes   bigint NOT NULL CHECK (size_bytes > 0),
    sha256       bytea NOT NULL CHECK (length(sha256) = 32),
    create_time  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX attachment_by_campaign ON attachment (campaign_id, id);
CREATE TABLE attachment_chunk (
    attachment_id uuid NOT NULL REFERENCES attachment (id) ON DELETE CASCADE,
    ordinal       integer NOT NULL,
    data          bytea NOT NULL,
    PRIMARY KEY (attachment_id, ordinal)
);
ALTER TABLE attachment_chunk ALTER COLUMN data SET STORAGE EXTERNAL;

-- migrate:down
DROP INDEX campaign_in_progress;
DROP TABLE attachment_chunk, attachment;
ALTER TABLE provider_account
    DROP COLUMN sender_addresses, DROP COLUMN sender_domains, DROP COLUMN check_fault, DROP COLUMN check_time;
DELETE FROM campaign WHERE test_of IS NOT NULL;
DROP INDEX campaign_unfinished;
DROP INDEX campaign_channel_lock;
ALTER TABLE campaign DROP COLUMN test_of;
CREATE UNIQUE INDEX campaign_channel_lock ON campaign (organisation_id, channel) WHERE holds_channel;
ALTER TABLE campaign_content DROP COLUMN compiled, DROP COLUMN compiled_report;
