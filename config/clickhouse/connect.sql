-- For ClickHouse that is filled by Kafka Connect (config/kubernetes/connect/clickhouse.yaml): run this before quality.sql, which then leaves out
-- its table over the Kafka engine. The rows of this table go to its view and are not stored.

CREATE DATABASE IF NOT EXISTS vqmon;

CREATE TABLE IF NOT EXISTS vqmon.quality_topic (message String, _error String DEFAULT '') ENGINE = Null;
