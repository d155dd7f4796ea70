-- The table of jdbc-postgresql.yaml, and a view of what most queries need. For all columns use the history: docs/sql.md.
CREATE TABLE IF NOT EXISTS vqmon_outcomes
(
    kafka_topic     text    NOT NULL,
    kafka_partition integer NOT NULL,
    kafka_offset    bigint  NOT NULL,
    document        jsonb   NOT NULL,
    PRIMARY KEY (kafka_topic, kafka_partition, kafka_offset)
);

CREATE OR REPLACE VIEW vqmon_scores AS
SELECT
    document -> 'data' ->> 'id'                                         AS event_id,
    document -> 'data' -> 'segment' -> 'rendition' ->> 'stream_id'      AS stream_id,
    document -> 'data' -> 'segment' -> 'rendition' ->> 'name'           AS rendition,
    (document -> 'data' -> 'segment' ->> 'starts_at')::timestamptz      AS starts_at,
    document -> 'data' ->> 'reason'                                     AS reason,
    score ->> 'scorer'                                                  AS scorer,
    (score ->> 'value')::double precision                               AS value
FROM vqmon_outcomes
LEFT JOIN LATERAL jsonb_array_elements(document -> 'data' -> 'scores') AS score ON true;
