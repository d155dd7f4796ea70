"""The peers of the Kafka bench: the plainest consume-produce loops, without judging or state.

`aiokafka` and `confluent` copy records; `transactions` parses the JSON of a record, writes 3 kB of JSON for it, and
commits in transactions.

python -m bench.serving.kafka_peers aiokafka|confluent|transactions BOOTSTRAP INPUT OUTPUT
"""

import asyncio
import json
import signal
import sys
import threading
import time

COMMIT_SECONDS = 0.25


async def aiokafka_loop(bootstrap: str, source: str, target: str) -> None:
    """Read, write, and commit every so often; until SIGTERM."""
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    options = {"bootstrap_servers": bootstrap}
    consumer = AIOKafkaConsumer(
        source, **options, group_id=f"loop-{target}", enable_auto_commit=False, auto_offset_reset="earliest"
    )
    async with AIOKafkaProducer(**options, acks="all", linger_ms=5) as producer, consumer:
        committed_at = time.monotonic()
        while not stop.is_set():
            sent = []
            for records in (await consumer.getmany(timeout_ms=50, max_records=500)).values():
                for record in records:
                    header = [("vqmon-input", f"{source}/{record.partition}/{record.offset}".encode())]
                    sent.append(await producer.send(target, record.value, record.key, headers=header))
            await asyncio.gather(*sent)
            if time.monotonic() - committed_at >= COMMIT_SECONDS:
                await consumer.commit()
                committed_at = time.monotonic()


def confluent_loop(bootstrap: str, source: str, target: str) -> None:
    """The same with librdkafka; until SIGTERM."""
    from confluent_kafka import Consumer, Producer

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"loop-{target}",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 5})
    consumer.subscribe([source])
    committed_at = time.monotonic()
    while not stop.is_set():
        records = consumer.consume(500, 0.05)
        for record in records:
            if record.error() is None:
                header = [("vqmon-input", f"{source}/{record.partition()}/{record.offset()}".encode())]
                producer.produce(target, record.value(), record.key(), headers=header)
        producer.flush(10)
        if records and time.monotonic() - committed_at >= COMMIT_SECONDS:
            consumer.commit(asynchronous=False)
            committed_at = time.monotonic()
    consumer.close()


def transactional_loop(bootstrap: str, source: str, target: str) -> None:
    """Read JSON, write 3 kB of JSON per record, and commit in transactions; until SIGTERM."""
    from confluent_kafka import Consumer, Producer

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"loop-{target}",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": target, "compression.type": "lz4"})
    producer.init_transactions(30)
    consumer.subscribe([source])
    # The numbers of frames and signals that make an outcome so large.
    filler = {f"signal-{number}": [number / 7 + value for value in range(16)] for number in range(9)}
    while not stop.is_set():
        records = [record for record in consumer.consume(500, 0.1) if record.error() is None]
        if not records:
            continue
        producer.begin_transaction()
        for record in records:
            document = json.loads(record.value())
            outcome = json.dumps({"id": document["id"], "segment": document["data"], "signals": filler})
            header = [("vqmon-input", f"{source}/{record.partition()}/{record.offset()}".encode())]
            producer.produce(target, outcome, record.key(), partition=record.partition(), headers=header)
        producer.send_offsets_to_transaction(
            consumer.position(consumer.assignment()), consumer.consumer_group_metadata()
        )
        producer.commit_transaction()
    consumer.close()


LOOPS = {"confluent": confluent_loop, "transactions": transactional_loop}

if __name__ == "__main__":
    if sys.argv[1] == "aiokafka":
        asyncio.run(aiokafka_loop(*sys.argv[2:5]))
    else:
        LOOPS[sys.argv[1]](*sys.argv[2:5])
