-- name: caller_by_key
SELECT organisation_id, role, label FROM api_key WHERE key_hash = $1

-- name: insert_organisation
INSERT INTO organisation (id, name) VALUES ($1, $2)
ON CONFLICT (id) DO NOTHING

-- name: insert_key
INSERT INTO api_key (key_hash, organisation_id, role, label) VALUES ($1, $2, $3, $4)
ON CONFLICT (key_hash) DO NOTHING

-- name: account_secret
-- Locked: replicas start at the same time.
SELECT secret FROM provider_account WHERE organisation_id = $1 AND channel = $2 FOR UPDATE

-- name: put_account
-- $8: the credentials are others than before, so what is known of the account is not known any more.
INSERT INTO provider_account (organisation_id, channel, settings, secret, segments_per_second_max,
                              price_per_segment_micros, currency_code)
VALUES ($1, $2, $3::jsonb, $4, $5, $6, $7)
ON CONFLICT (organisation_id, channel) DO UPDATE
    SET settings = excluded.settings, secret = excluded.secret, update_time = now(),
        segments_per_second_max = excluded.segments_per_second_max,
        price_per_segment_micros = excluded.price_per_segment_micros, currency_code = excluded.currency_code,
        sender_addresses = CASE WHEN $8 THEN '{}' ELSE provider_account.sender_addresses END,
        sender_domains = CASE WHEN $8 THEN '{}' ELSE provider_account.sender_domains END,
        check_fault = CASE WHEN $8 THEN '' ELSE provider_account.check_fault END,
        check_time = CASE WHEN $8 THEN NULL ELSE provider_account.check_time END

-- name: get_terms
SELECT segments_per_second_max, price_per_segment_micros, currency_code,
       sender_addresses, sender_domains, check_fault, check_time
FROM provider_account
WHERE organisation_id = $1 AND channel = $2

-- name: withdraw_other_keys
DELETE FROM api_key WHERE organisation_id = $1 AND label = $2 AND key_hash <> $3
