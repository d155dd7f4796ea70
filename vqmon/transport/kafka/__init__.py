"""Kafka in and out, exactly once: group membership, transactions, changelogs and topics."""

from vqmon.transport.kafka.connection import ClientConfig
from vqmon.transport.kafka.consumer_group import AssignedConsumer, GroupConsumer
from vqmon.transport.kafka.producer import IdempotentProducer
from vqmon.transport.kafka.reader import Changelog
from vqmon.transport.kafka.records import (
    BatchWriter,
    PartitionOffsets,
    ProducerRecord,
    Record,
    TopicNames,
    TransactionBatch,
)
from vqmon.transport.kafka.topic_checks import TopicProblem, check_topics
from vqmon.transport.kafka.topics import TopicSpec, create_topics, max_record_bytes, topic_specs
from vqmon.transport.kafka.transactions import TransactionalProducer, write_exactly_once

__all__ = [
    "AssignedConsumer",
    "BatchWriter",
    "Changelog",
    "ClientConfig",
    "GroupConsumer",
    "IdempotentProducer",
    "PartitionOffsets",
    "ProducerRecord",
    "Record",
    "TopicNames",
    "TopicProblem",
    "TopicSpec",
    "TransactionBatch",
    "TransactionalProducer",
    "check_topics",
    "create_topics",
    "max_record_bytes",
    "topic_specs",
    "write_exactly_once",
]
