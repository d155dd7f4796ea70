"""The daemon as one of many workers behind Kafka."""
