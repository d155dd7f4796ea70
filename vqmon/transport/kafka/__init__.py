"""Kafka in and out, exactly once: records, group membership, transactions, state, topics."""

from vqmon.transport.kafka.connection import Connection
from vqmon.transport.kafka.consumer_group import Group
from vqmon.transport.kafka.producer import Publisher
from vqmon.transport.kafka.reader import read_changelog
from vqmon.transport.kafka.records import Batch, Outgoing, Position, Record, TopicNames, Transactions
from vqmon.transport.kafka.topics import TopicPlan, check_topics, create_topics, largest_record, planned_topics
from vqmon.transport.kafka.transactions import TransactionWriter, write_once

__all__ = [
    "Batch",
    "Connection",
    "Group",
    "Outgoing",
    "Position",
    "Publisher",
    "Record",
    "TopicNames",
    "TopicPlan",
    "TransactionWriter",
    "Transactions",
    "check_topics",
    "create_topics",
    "largest_record",
    "planned_topics",
    "read_changelog",
    "write_once",
]
