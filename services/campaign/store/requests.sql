-- name: begin_request
-- Waits while another call with the same id is being done; gives a row when the id is ours now. One that is older than
-- 24 hours and not purged yet is as good as gone.
INSERT INTO request_log (organisation_id, request_id, method, request_hash, response)
VALUES ($1, $2, $3, $4, '')
ON CONFLICT (organisation_id, request_id) DO UPDATE
    SET method = excluded.method, request_hash = excluded.request_hash, response = '', create_time = now()
    WHERE request_log.create_time < now() - interval '24 hours'
RETURNING request_id

-- name: is_request_kept
SELECT EXISTS (
    SELECT FROM request_log
    WHERE organisation_id = $1 AND request_id = $2 AND create_time >= now() - interval '24 hours'
)

-- name: get_request
SELECT method, request_hash, response FROM request_log WHERE organisation_id = $1 AND request_id = $2

-- name: kept_request
SELECT method, request_hash, response FROM request_log
WHERE organisation_id = $1 AND request_id = $2 AND create_time >= now() - interval '24 hours'

-- name: finish_request
UPDATE request_log SET response = $3 WHERE organisation_id = $1 AND request_id = $2

-- name: purge_requests
DELETE FROM request_log
WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM request_log WHERE create_time < now() - interval '24 hours' LIMIT $1
))
