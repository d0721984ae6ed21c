"""The embedded stack: Kafka, ClickHouse and all services on this machine, started and watched."""
