"""The embedded stack: real Kafka and the real ClickHouse engine on loopback, without Docker."""
