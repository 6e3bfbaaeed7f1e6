-- name: insert_attachment
INSERT INTO attachment (id, campaign_id, file_name, content_type, size_bytes, sha256)
VALUES ($1, $2, $3, $4, $5, $6)
RETURNING create_time

-- name: insert_attachment_chunk
INSERT INTO attachment_chunk (attachment_id, ordinal, data) VALUES ($1, $2, $3)

-- name: list_attachments
-- Ids are UUIDv7: their order is that in which the files were added.
SELECT id, campaign_id, file_name, content_type, size_bytes, sha256, create_time
FROM attachment
WHERE campaign_id = $1
ORDER BY id

-- name: list_sent_attachments
-- A test send has none of its own: those of the campaign that it tests go with it.
SELECT a.id, a.campaign_id, a.file_name, a.content_type, a.size_bytes, a.sha256, a.create_time
FROM campaign c
JOIN attachment a ON a.campaign_id = coalesce(c.test_of, c.id)
WHERE c.id = $1
ORDER BY a.id

-- name: get_sent_attachment
SELECT a.id, a.campaign_id, a.file_name, a.content_type, a.size_bytes, a.sha256, a.create_time
FROM campaign c
JOIN attachment a ON a.campaign_id = coalesce(c.test_of, c.id)
WHERE c.id = $1 AND a.id = $2

-- name: get_attachment_chunk
SELECT data FROM attachment_chunk WHERE attachment_id = $1 AND ordinal = $2

-- name: attachments_used
SELECT count(*)::int AS count, coalesce(sum(size_bytes), 0)::bigint AS size_bytes FROM attachment WHERE campaign_id = $1

-- name: delete_attachment
DELETE FROM attachment WHERE campaign_id = $1 AND id = $2 RETURNING id
