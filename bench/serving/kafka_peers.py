"""The peers of the Kafka bench: the plainest consume-produce loops, without judging, state or exactly-once.

python -m bench.serving.kafka_peers aiokafka|confluent BOOTSTRAP INPUT OUTPUT
"""

import asyncio
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


if __name__ == "__main__":
    if sys.argv[1] == "aiokafka":
        asyncio.run(aiokafka_loop(*sys.argv[2:5]))
    else:
        confluent_loop(*sys.argv[2:5])
