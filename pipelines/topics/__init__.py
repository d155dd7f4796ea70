"""Commands that read or write Kafka topics."""
