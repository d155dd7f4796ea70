"""Messages in and out: the wire form, the history, Kafka."""
