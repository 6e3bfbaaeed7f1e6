-- migrate:up

-- Tenants, who may call, and how they reach their providers.
CREATE TABLE organisation (
    id          uuid PRIMARY KEY,
    name        text NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_key (
    key_hash        bytea PRIMARY KEY CHECK (length(key_hash) = 32), -- SHA-256 of the key; the key itself is not kept
    organisation_id uuid NOT NULL REFERENCES organisation (id),
    role            smallint NOT NULL CHECK (role BETWEEN 1 AND 4),
    label           text NOT NULL,
    create_time     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE provider_account (
    organisation_id         uuid NOT NULL REFERENCES organisation (id),
    channel                 smallint NOT NULL CHECK (channel IN (1, 2)),
    settings                jsonb NOT NULL,  -- nothing secret: account SID, default sender, validity period
    secret                  bytea NOT NULL,  -- encrypted (Fernet)
    segments_per_second_max double precision CHECK (segments_per_second_max > 0), -- NULL: no pace
    price_per_segment_micros bigint CHECK (price_per_segment_micros >= 0),
    currency_code           text,
    update_time             timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organisation_id, channel)
);

-- The hot row: its status, counts and revision change with every batch of its messages. What is large or never
-- changes in a run is in campaign_content, so that a batch rewrites few bytes.
CREATE TABLE campaign (
    id              uuid PRIMARY KEY,
    organisation_id uuid NOT NULL REFERENCES organisation (id),
    channel         smallint NOT NULL CHECK (channel IN (1, 2)),
    name            text NOT NULL,
    description     text NOT NULL DEFAULT '',
    missing_variable_policy smallint NOT NULL CHECK (missing_variable_policy IN (1, 2)),
    status          smallint NOT NULL CHECK (status BETWEEN 1 AND 7),
    -- Taken with a run, given back when nothing is queued, sending or sent any more.
    holds_channel   boolean NOT NULL DEFAULT false,
    waiting         integer NOT NULL DEFAULT 0 CHECK (waiting >= 0),
    queued          integer NOT NULL DEFAULT 0 CHECK (queued >= 0),
    sending         integer NOT NULL DEFAULT 0 CHECK (sending >= 0),
    sent            integer NOT NULL DEFAULT 0 CHECK (sent >= 0),
    retrying        integer NOT NULL DEFAULT 0 CHECK (retrying >= 0),
    delivered       integer NOT NULL DEFAULT 0 CHECK (delivered >= 0),
    assumed_delivered integer NOT NULL DEFAULT 0 CHECK (assumed_delivered >= 0),
    failed          integer NOT NULL DEFAULT 0 CHECK (failed >= 0),
    opted_out       integer NOT NULL DEFAULT 0 CHECK (opted_out >= 0),
    cancelled       integer NOT NULL DEFAULT 0 CHECK (cancelled >= 0),
    total           integer NOT NULL DEFAULT 0,
    revision        bigint NOT NULL DEFAULT 0,
    run             integer NOT NULL DEFAULT 0,
    version         integer NOT NULL DEFAULT 1, -- grows with every edit; the etag is made of it
    create_time     timestamptz NOT NULL DEFAULT now(),
    update_time     timestamptz NOT NULL DEFAULT now(),
    start_time      timestamptz,
    stop_time       timestamptz,
    end_time        timestamptz,
    failure_reason  smallint CHECK (failure_reason BETWEEN 1 AND 17),
    failure_text    text,
    failure_code    text,
    -- The import's result.
    rows_read       integer NOT NULL DEFAULT 0,
    rows_invalid    integer NOT NULL DEFAULT 0,
    rows_duplicate  integer NOT NULL DEFAULT 0,
    import_time     timestamptz,
    consent_by      text, -- who confirmed, with the upload, that all contacts consented
    consent_time    timestamptz,
    -- The dispatch window (services/campaign/delivery/dispatcher).
    dispatch_epoch      integer NOT NULL DEFAULT 0,
    dispatched_through  integer NOT NULL DEFAULT 0,
    undispatched        integer NOT NULL DEFAULT 0, -- queued messages above dispatched_through
    dispatch_time       timestamptz,
    claim_time          timestamptz, -- the latest claim of the run
    segments_mean       real NOT NULL DEFAULT 1,
    log_pruned_through  bigint NOT NULL DEFAULT 0, -- change_log rows up to this revision may be gone
    CONSTRAINT campaign_counts_add_up CHECK (
        waiting + queued + sending + sent + retrying + delivered + assumed_delivered + failed + opted_out + cancelled = total
    ),
    CONSTRAINT campaign_channel_held_in_progress CHECK (holds_channel = (status = 3))
) WITH (fillfactor = 50);

-- One running campaign per organisation and channel: the lock itself.
CREATE UNIQUE INDEX campaign_channel_lock ON campaign (organisation_id, channel) WHERE holds_channel;
CREATE INDEX campaign_by_organisation ON campaign (organisation_id, id);

CREATE TABLE campaign_content (
    campaign_id  uuid PRIMARY KEY REFERENCES campaign (id) ON DELETE CASCADE,
    content_hash text NOT NULL,
    content      jsonb NOT NULL, -- SmsContent or EmailContent in protobuf's JSON form
    columns      jsonb NOT NULL DEFAULT '[]', -- [{name, role, variable_name}], in the file's order
    problems     jsonb NOT NULL DEFAULT '[]'  -- [{field, reason, description}]
);

-- Written once, by COPY.
CREATE TABLE contact (
    campaign_id    uuid NOT NULL,
    number         integer NOT NULL,
    recipient      text NOT NULL,
    recipient_hash bytea NOT NULL, -- keyed; what suppressions are compared by
    variables      text[] NOT NULL, -- the custom variables in column order; NULL: no value
    PRIMARY KEY (campaign_id, number)
);

-- Narrow, because it is rewritten three times or more. No index may mention a column that a status change sets: the
-- update would not be heap-only any more (measured: half the speed).
CREATE TABLE message (
    campaign_id    uuid NOT NULL,
    number         integer NOT NULL,
    status         smallint NOT NULL DEFAULT 1 CHECK (status BETWEEN 1 AND 10),
    failure_reason smallint CHECK (failure_reason BETWEEN 1 AND 17),
    segments       smallint NOT NULL DEFAULT 0,
    run            integer NOT NULL DEFAULT 0,
    attempt        integer NOT NULL DEFAULT 0,
    claim_time     timestamptz,
    update_time    timestamptz NOT NULL DEFAULT now(),
    claimed_by     uuid, -- the instance of the latest attempt; NULL once that is unknown: nothing hands it back then
    provider_message_id text,
    provider_code  text,
    PRIMARY KEY (campaign_id, number),
    CONSTRAINT message_failed_has_reason CHECK ((status = 8) = (failure_reason IS NOT NULL)),
    CONSTRAINT message_claimed CHECK (status NOT IN (3, 4, 5, 6, 7) OR attempt > 0)
) WITH (fillfactor = 60);

-- Attempts that may have gone out and whose outcome is not known. Few; looked up at the provider until the limit.
CREATE TABLE unknown_attempt (
    campaign_id       uuid NOT NULL,
    number            integer NOT NULL,
    attempt           integer NOT NULL,
    unknown_time      timestamptz NOT NULL DEFAULT now(),
    next_look_up_time timestamptz NOT NULL,
    look_ups          integer NOT NULL DEFAULT 0,
    PRIMARY KEY (campaign_id, number)
);

-- Sender processes known to be dead: no claim is granted to them any more.
CREATE TABLE ended_instance (
    instance_id uuid PRIMARY KEY,
    end_time    timestamptz NOT NULL DEFAULT now()
);

-- One row a commit that changed messages. Feeds Watch.
CREATE TABLE change_log (
    campaign_id     uuid NOT NULL,
    revision        bigint NOT NULL,
    commit_time     timestamptz NOT NULL DEFAULT now(),
    campaign_status smallint NOT NULL,
    counts          integer[] NOT NULL, -- by message status 1…10, after the change
    numbers         integer[] NOT NULL,
    statuses        smallint[] NOT NULL,
    failure_reasons smallint[] NOT NULL, -- 0: none
    attempts        integer[] NOT NULL,
    PRIMARY KEY (campaign_id, revision)
);

CREATE TABLE suppression (
    organisation_id uuid NOT NULL REFERENCES organisation (id),
    channel         smallint NOT NULL CHECK (channel IN (1, 2)),
    recipient_hash  bytea NOT NULL,
    suppressed      boolean NOT NULL, -- false: opted in again; the row keeps the time, so an older event can't undo it
    source          text NOT NULL,
    event_time      timestamptz NOT NULL,
    PRIMARY KEY (organisation_id, channel, recipient_hash)
);

-- An uploaded file until it is imported.
CREATE TABLE upload (
    id              uuid PRIMARY KEY,
    campaign_id     uuid NOT NULL UNIQUE REFERENCES campaign (id) ON DELETE CASCADE,
    consent_by      text NOT NULL,
    consent_time    timestamptz NOT NULL DEFAULT now(),
    description     jsonb NOT NULL, -- columns, sample rows, encoding, delimiter, header, mapping
    size_bytes      bigint NOT NULL
);
CREATE TABLE upload_chunk (
    upload_id uuid NOT NULL REFERENCES upload (id) ON DELETE CASCADE,
    ordinal   integer NOT NULL,
    data      bytea NOT NULL,
    PRIMARY KEY (upload_id, ordinal)
);
ALTER TABLE upload_chunk ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE contact_problem (
    campaign_id uuid NOT NULL,
    ordinal     integer NOT NULL,
    row_number  integer NOT NULL,
    column_name text NOT NULL,
    reason      text NOT NULL,
    detail      text NOT NULL,
    PRIMARY KEY (campaign_id, ordinal)
);

-- Who accepted which disclaimer, when. Stays when the campaign is deleted.
CREATE TABLE disclaimer_acceptance (
    campaign_id     uuid NOT NULL,
    run             integer NOT NULL,
    organisation_id uuid NOT NULL,
    version         text NOT NULL,
    accepted_by     text NOT NULL,
    accept_time     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (campaign_id, run)
);

-- Answers of mutating calls, by the caller's request_id, for 24 hours.
CREATE TABLE request_log (
    organisation_id uuid NOT NULL,
    request_id      uuid NOT NULL,
    method          text NOT NULL,
    request_hash    bytea NOT NULL,
    response        bytea NOT NULL,
    create_time     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organisation_id, request_id)
);
CREATE INDEX request_log_by_time ON request_log (create_time);

-- migrate:down
DROP TABLE request_log, disclaimer_acceptance, contact_problem, upload_chunk, upload, suppression, change_log,
    ended_instance, unknown_attempt, message, contact, campaign_content, campaign, provider_account, api_key, organisation;
