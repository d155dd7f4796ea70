-- Outcomes of vqmon in ClickHouse: a table for queries over many streams, filled from the Kafka topic.
-- One row per outcome and scorer; an unscored outcome is one row. views.sql makes the public views from it.
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
    bitrate_kbps     Nullable(Float64),
    codec            LowCardinality(String),
    sequence         Int64,
    segment_key      String CODEC(ZSTD(3)),
    starts_at        DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    duration_seconds Float64,
    observed_at      DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    labels           Map(LowCardinality(String), String), -- of the segment and its rendition
    arm              LowCardinality(String),             -- the label `arm`; empty = none
    stage            LowCardinality(String),
    reason           LowCardinality(String),
    detail           String CODEC(ZSTD(3)),
    scorer           LowCardinality(String),             -- name@version; empty when unscored
    value            Float64,                            -- 0..100, higher is better; 0 when unscored
    native_value     Float64,
    p5               Float64,
    min              Float64,
    pooling          LowCardinality(String),
    frames           UInt32,
    signals          Map(LowCardinality(String), Float64), -- highest frame value, 0..1
    reference_values Map(LowCardinality(String), Float64), -- reference measures on their own scales
    reference_offset_seconds Nullable(Float64),
    reference_confidence     Nullable(Float64),
    unscored_reference       LowCardinality(String),
    decoder          LowCardinality(String),
    scorer_failures  Map(LowCardinality(String), LowCardinality(String)), -- scorer that gave no score -> reason
    audio_values     Map(LowCardinality(String), Float64), -- measurements of the sound, each in its own unit
    unmeasured_audio LowCardinality(String),
    subtitle_cues     Map(LowCardinality(String), UInt32), -- rendition of subtitles that was read -> cues
    subtitle_problems Map(LowCardinality(String), LowCardinality(String)) -- rendition that was not read -> why
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
    JSONExtractRaw(data, 'audio') AS audio,
    JSONExtractArrayRaw(data, 'subtitles') AS subtitle_tracks,
    JSONExtractArrayRaw(data, 'scores') AS scores
SELECT
    JSONExtractString(data, 'id') AS event_id,
    if(JSONExtractString(message, 'type') = 'org.vqmon.quality.v1', 'scored', 'unscored') AS kind,
    JSONExtractString(rendition_json, 'stream_id') AS stream_id,
    JSONExtractString(rendition_json, 'name') AS rendition,
    if(JSONExtractUInt(rendition_json, 'width') > 0, JSONExtractUInt(rendition_json, 'width'), JSONExtractUInt(media, 'width')) AS width,
    if(JSONExtractUInt(rendition_json, 'height') > 0, JSONExtractUInt(rendition_json, 'height'), JSONExtractUInt(media, 'height')) AS height,
    JSONExtract(rendition_json, 'bitrate_kbps', 'Nullable(Float64)') AS bitrate_kbps,
    JSONExtractString(media, 'codec') AS codec,
    JSONExtractInt(segment, 'sequence') AS sequence,
    concat(
        stream_id, '/', rendition, '/', toString(sequence), '/',
        lower(domain(JSONExtractString(segment, 'url'))), path(JSONExtractString(segment, 'url')),
        if(JSONHas(segment, 'byte_range', 'offset_bytes'), concat('@', toString(JSONExtractInt(segment, 'byte_range', 'offset_bytes'))), '')
    ) AS segment_key,
    parseDateTime64BestEffort(JSONExtractString(segment, 'starts_at'), 6, 'UTC') AS starts_at,
    JSONExtractFloat(segment, 'duration_seconds') AS duration_seconds,
    parseDateTime64BestEffort(JSONExtractString(data, 'observed_at'), 6, 'UTC') AS observed_at,
    mapUpdate(
        JSONExtract(rendition_json, 'labels', 'Map(LowCardinality(String), String)'),
        JSONExtract(segment, 'labels', 'Map(LowCardinality(String), String)')
    ) AS labels,
    labels['arm'] AS arm,
    JSONExtractString(data, 'stage') AS stage,
    JSONExtractString(data, 'reason') AS reason,
    JSONExtractString(data, 'detail') AS detail,
    JSONExtractString(score, 'scorer') AS scorer,
    JSONExtractFloat(score, 'value') AS value,
    JSONExtractFloat(score, 'native_value') AS native_value,
    JSONExtractFloat(score, 'p5') AS p5,
    JSONExtractFloat(score, 'min') AS min,
    JSONExtractString(score, 'pooling') AS pooling,
    JSONLength(data, 'times_seconds') AS frames,
    mapApply(
        (name, summary) -> (name, JSONExtractFloat(summary, 'max')),
        CAST(JSONExtractKeysAndValuesRaw(data, 'signals'), 'Map(LowCardinality(String), String)')
    ) AS signals,
    CAST(
        arrayMap(
            reference -> (JSONExtractString(reference, 'measure'), JSONExtractFloat(reference, 'value')),
            JSONExtractArrayRaw(data, 'references')
        ),
        'Map(LowCardinality(String), Float64)'
    ) AS reference_values,
    JSONExtract(data, 'reference_pairing', 'offset_seconds', 'Nullable(Float64)') AS reference_offset_seconds,
    JSONExtract(data, 'reference_pairing', 'confidence', 'Nullable(Float64)') AS reference_confidence,
    JSONExtractString(data, 'unscored_reference') AS unscored_reference,
    JSONExtractString(data, 'provenance', 'versions', 'libavcodec') AS decoder,
    CAST(
        arrayMap(
            failure -> (JSONExtractString(failure, 'scorer'), JSONExtractString(failure, 'reason')),
            JSONExtractArrayRaw(data, 'scorer_failures')
        ),
        'Map(LowCardinality(String), LowCardinality(String))'
    ) AS scorer_failures,
    mapConcat(
        CAST(
            arrayMap(
                pair -> (pair.1, if(pair.2 = 'true', 1., if(pair.2 = 'false', 0., toFloat64OrZero(pair.2)))),
                arrayFilter(pair -> pair.2 != 'null', JSONExtractKeysAndValuesRaw(audio))
            ),
            'Map(LowCardinality(String), Float64)'
        ),
        if(
            isNull(JSONExtract(audio, 'end_offset_seconds', 'Nullable(Float64)')) OR isNull(JSONExtract(audio, 'offset_seconds', 'Nullable(Float64)')),
            CAST(map(), 'Map(LowCardinality(String), Float64)'),
            CAST(map('drift_seconds', JSONExtractFloat(audio, 'end_offset_seconds') - JSONExtractFloat(audio, 'offset_seconds')), 'Map(LowCardinality(String), Float64)')
        )
    ) AS audio_values,
    JSONExtractString(data, 'unmeasured_audio') AS unmeasured_audio,
    CAST(
        arrayMap(
            track -> (JSONExtractString(track, 'name'), JSONExtractUInt(track, 'cues')),
            arrayFilter(track -> JSONExtractString(track, 'problem') = '', subtitle_tracks)
        ),
        'Map(LowCardinality(String), UInt32)'
    ) AS subtitle_cues,
    CAST(
        arrayMap(
            track -> (JSONExtractString(track, 'name'), JSONExtractString(track, 'problem')),
            arrayFilter(track -> JSONExtractString(track, 'problem') != '', subtitle_tracks)
        ),
        'Map(LowCardinality(String), LowCardinality(String))'
    ) AS subtitle_problems
FROM vqmon.quality_topic
ARRAY JOIN if(empty(scores), [''], scores) AS score
-- Workers of a version without the control topic wrote ends and deploy markers here too.
WHERE length(_error) = 0
    AND JSONExtractString(message, 'type') IN ('org.vqmon.quality.v1', 'org.vqmon.unscored.v1');
