"""The partition that confluent-kafka's producer chooses, with the setting the SDK uses."""

from confluent_kafka import KafkaError, Message, Producer

from meterstream.schemas.partitions import partition_of

TEAMS = [*(f"team-{i}" for i in range(200)), "a", "ab", "abc", "büro", "工作室", "x" * 64]


def test_murmur2_random_agrees() -> None:
    """For every key the producer of librdkafka sends to the partition that we compute."""
    # librdkafka answers itself here; what is looked at is its real partitioner.
    producer = Producer({"test.mock.num.brokers": 1, "partitioner": "murmur2_random"})
    topic = "partitioner"
    partitions = len(producer.list_topics(topic, timeout=30).topics[topic].partitions)
    assert partitions > 1
    chosen: dict[str, int] = {}

    def delivered(error: KafkaError | None, message: Message) -> None:
        assert error is None
        key, partition = message.key(), message.partition()
        assert key is not None
        assert partition is not None
        chosen[key.decode()] = partition

    for team in TEAMS:
        producer.produce(topic, key=team.encode(), value=b"{}", on_delivery=delivered)
    assert producer.flush(30) == 0
    assert chosen == {team: partition_of(team, partitions) for team in TEAMS}
