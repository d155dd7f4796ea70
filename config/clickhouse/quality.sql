-- Outcomes of vqmon in ClickHouse: a table for queries over many streams, filled from the Kafka topic.
-- One row per outcome and scorer, the same columns as the Parquet export; an unscored outcome is one row.
-- Made for ClickHouse 24.8 and later. Set the brokers, the topic (kafka.prefix) and the TTL.

CREATE DATABASE IF NOT EXISTS vqmon;

CREATE TABLE IF NOT EXISTS vqmon.quality
(
    event_id         FixedString(32),
    kind             LowCardinality(String),             -- scored, unscored
    stream_id        LowCardinality(String),
    rendition        LowCardinality(String),
    width            UInt16,                             -- 0 = unknown
    height           UInt16,
    bitrate_kbps     Float32,
    codec            LowCardinality(String),
    sequence         Int64,
    segment_url      String CODEC(ZSTD(3)),
    starts_at        DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    duration_seconds Float32,
    observed_at      DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    arm              LowCardinality(String),             -- label of the segment or rendition
    stage            LowCardinality(String),
    reason           LowCardinality(String),
    detail           String CODEC(ZSTD(3)),
    scorer           LowCardinality(String),             -- name@version; empty when unscored
    value            Float32,                            -- 0..100, higher is better; 0 when unscored
    native_value     Float32,
    p5               Float32,
    min              Float32,
    signals          Map(LowCardinality(String), Float32), -- highest frame value, 0..1
    decoder          LowCardinality(String)
)
-- The same event may come twice (a segment announced twice, a consumer that starts again): the newest row remains when
-- parts are merged, and SELECT ... FINAL returns only that row before the merge.
ENGINE = ReplacingMergeTree(observed_at)
PARTITION BY toYYYYMM(starts_at)
ORDER BY (stream_id, rendition, starts_at, scorer, event_id)
TTL toDateTime(starts_at) + INTERVAL 400 DAY
SETTINGS index_granularity = 8192;

-- The topic as a table: only committed messages are read. Messages that are not JSON are counted by the server
-- (system.kafka_consumers) and do not stop it.
CREATE TABLE IF NOT EXISTS vqmon.quality_topic (message String)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = '127.0.0.1:9092',
    kafka_topic_list = 'vqmon.quality.v1',
    kafka_group_name = 'clickhouse',
    kafka_format = 'RawBLOB',
    kafka_num_consumers = 1,
    kafka_handle_error_mode = 'stream',
    kafka_thread_per_consumer = 0;

-- Converts each message to rows. `scores` is empty for an unscored outcome, which becomes one row without a scorer.
CREATE MATERIALIZED VIEW IF NOT EXISTS vqmon.quality_from_topic TO vqmon.quality AS
WITH
    JSONExtractRaw(message, 'data') AS data,
    JSONExtractRaw(data, 'segment') AS segment,
    JSONExtractRaw(segment, 'rendition') AS rendition_json,
    JSONExtractRaw(data, 'media') AS media,
    JSONExtractArrayRaw(data, 'scores') AS scores
SELECT
    JSONExtractString(data, 'id') AS event_id,
    if(JSONExtractString(message, 'type') = 'org.vqmon.quality.v1', 'scored', 'unscored') AS kind,
    JSONExtractString(rendition_json, 'stream_id') AS stream_id,
    JSONExtractString(rendition_json, 'name') AS rendition,
    greatest(JSONExtractUInt(rendition_json, 'width'), JSONExtractUInt(media, 'width')) AS width,
    greatest(JSONExtractUInt(rendition_json, 'height'), JSONExtractUInt(media, 'height')) AS height,
    JSONExtractFloat(rendition_json, 'bitrate_kbps') AS bitrate_kbps,
    JSONExtractString(media, 'codec') AS codec,
    JSONExtractInt(segment, 'sequence') AS sequence,
    cutQueryString(JSONExtractString(segment, 'url')) AS segment_url,
    parseDateTime64BestEffort(JSONExtractString(segment, 'starts_at'), 3, 'UTC') AS starts_at,
    JSONExtractFloat(segment, 'duration_seconds') AS duration_seconds,
    parseDateTime64BestEffort(JSONExtractString(data, 'observed_at'), 3, 'UTC') AS observed_at,
    if(
        JSONHas(segment, 'labels', 'arm'),
        JSONExtractString(segment, 'labels', 'arm'),
        JSONExtractString(rendition_json, 'labels', 'arm')
    ) AS arm,
    JSONExtractString(data, 'stage') AS stage,
    JSONExtractString(data, 'reason') AS reason,
    JSONExtractString(data, 'detail') AS detail,
    JSONExtractString(score, 'scorer') AS scorer,
    JSONExtractFloat(score, 'value') AS value,
    JSONExtractFloat(score, 'native_value') AS native_value,
    JSONExtractFloat(score, 'p5') AS p5,
    JSONExtractFloat(score, 'min') AS min,
    mapApply(
        (name, summary) -> (name, toFloat32(JSONExtractFloat(summary, 'max'))),
        CAST(JSONExtractKeysAndValuesRaw(data, 'signals'), 'Map(LowCardinality(String), String)')
    ) AS signals,
    JSONExtractString(data, 'provenance', 'versions', 'libavcodec') AS decoder
FROM vqmon.quality_topic
ARRAY JOIN if(empty(scores), [''], scores) AS score
-- The topic also has ends and deploy markers.
WHERE length(_error) = 0
    AND JSONExtractString(message, 'type') IN ('org.vqmon.quality.v1', 'org.vqmon.unscored.v1');
