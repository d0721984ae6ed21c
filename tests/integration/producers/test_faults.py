"""Whatever is killed, each accepted event arrives at least once, in the order of its team."""

import json
import random
import subprocess
import sys
import threading
from collections import defaultdict
from pathlib import Path

from tests.support.publishing import create_events_topic, make_settings, read_topic, run_event
from tests.support.stack import OwnKafka
from tests.support.waiting import eventually

from meterstream.producers import BrokerUnreachable, DeliveryState, Publisher

TIMEOUT_S = 120
TEAMS = 5


def _first_copies(bootstrap: str, topic: str) -> dict[str, list[int]]:
    """Return the numbers of each team's events, without the repeats, as they stand in the topic."""
    found: dict[str, list[int]] = defaultdict(list)
    for _, key, value in read_topic(bootstrap, topic, TIMEOUT_S):
        found[key.decode()].append(json.loads(value)["data"]["input_tokens"])
    return {team: list(dict.fromkeys(numbers)) for team, numbers in found.items()}


def _team(number: int) -> str:
    return f"team-{number % TEAMS}"


def test_a_broker_that_is_away_or_dies_costs_nothing(own_kafka: OwnKafka, tmp_path: Path) -> None:
    """Events accepted before, while and after the broker is away all arrive, in order."""
    topic = create_events_topic(own_kafka.bootstrap, "f.")
    own_kafka.kill()
    told: list[Exception] = []
    settings = make_settings(tmp_path, own_kafka.bootstrap, topic_prefix="f.")
    publisher = Publisher(settings, on_error=told.append)
    count = 0

    def publish(events: int) -> None:
        nonlocal count
        for _ in range(events):
            publisher.publish(run_event(count, _team(count)))
            count += 1

    publish(500)
    eventually(lambda: told, TIMEOUT_S, "the absence is told")
    assert isinstance(told[0], BrokerUnreachable)
    assert publisher.remaining == 500
    own_kafka.start()
    first = publisher.publish(run_event(count, _team(count)))
    count += 1
    first.wait(TIMEOUT_S)
    eventually(lambda: publisher.remaining == 0, TIMEOUT_S, "all events are acknowledged")

    stop = threading.Event()

    def keep_publishing() -> None:
        while not stop.is_set():
            publish(20)
            stop.wait(0.01)

    thread = threading.Thread(target=keep_publishing)
    thread.start()
    seen = count
    eventually(lambda: count > seen + 200, TIMEOUT_S, "events flow")
    own_kafka.kill()
    seen = count
    eventually(lambda: count > seen + 200, TIMEOUT_S, "events are accepted without a broker")
    own_kafka.start()
    seen = count
    eventually(lambda: count > seen + 200, TIMEOUT_S, "events flow again")
    stop.set()
    thread.join()
    publisher.flush(TIMEOUT_S)
    last = publisher.publish(run_event(count, _team(count)))
    count += 1
    last.wait(TIMEOUT_S)
    assert last.state is DeliveryState.ACKNOWLEDGED
    assert publisher.close() == 0
    expected = {f"team-{team}": list(range(team, count, TEAMS)) for team in range(TEAMS)}
    assert _first_copies(own_kafka.bootstrap, topic) == expected
    assert list(tmp_path.iterdir()) == []


_SERVICE = """
import sys
from pathlib import Path
from meterstream.producers import Publisher
from tests.support.publishing import make_settings, run_event
spool, bootstrap, first = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
publisher = Publisher(make_settings(spool, bootstrap, topic_prefix="f."))
for number in range(first, first + 1_000_000):
    publisher.publish(run_event(number, f"team-{number % 5}"))
    print(number, flush=True)
"""


def _service_killed_after(count: int, spool: Path, bootstrap: str, first: int) -> list[int]:
    """Run a service, kill it with -9 after `count` events; return what it knew to be accepted."""
    command = [sys.executable, "-c", _SERVICE, str(spool), bootstrap, str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        accepted = [int(process.stdout.readline()) for _ in range(count)]
        process.kill()
        rest = process.stdout.read().splitlines(keepends=True)
        return accepted + [int(line) for line in rest if line.endswith(b"\n")]


def test_a_service_that_is_killed_loses_nothing_it_accepted(
    own_kafka: OwnKafka, tmp_path: Path
) -> None:
    """Ten kills -9, with and without a broker: every event that publish returned for arrives."""
    topic = create_events_topic(own_kafka.bootstrap, "f.")
    rng = random.Random(3)
    accepted: list[int] = []
    for life in range(10):
        if life == 4:
            own_kafka.kill()
        if life == 7:
            own_kafka.start()
        accepted += _service_killed_after(
            rng.randint(1, 1500), tmp_path, own_kafka.bootstrap, life * 1_000_000
        )
    settings = make_settings(tmp_path, own_kafka.bootstrap, topic_prefix="f.")
    with Publisher(settings) as publisher:
        last = 99_999_999
        publisher.publish(run_event(last, _team(last))).wait(TIMEOUT_S)
        # What the killed ones left goes to other partitions as well, each at its own pace.
        eventually(lambda: publisher.remaining == 0, TIMEOUT_S, "all events are acknowledged")
    accepted.append(last)
    arrived = _first_copies(own_kafka.bootstrap, topic)
    for numbers in arrived.values():
        assert numbers == sorted(numbers)
    assert set(accepted) <= {number for numbers in arrived.values() for number in numbers}
    assert list(tmp_path.iterdir()) == []


def test_a_running_publisher_adopts_what_a_killed_neighbour_left(
    own_kafka: OwnKafka, tmp_path: Path
) -> None:
    """Two services share a spool; one is killed while the broker is away; the other one sends."""
    topic = create_events_topic(own_kafka.bootstrap, "f.")
    own_kafka.kill()
    settings = make_settings(tmp_path, own_kafka.bootstrap, topic_prefix="f.")
    survivor = Publisher(settings)
    survivor.publish(run_event(99_000_000, _team(0)))
    accepted = _service_killed_after(300, tmp_path, own_kafka.bootstrap, 0)
    survivor._engine.sender.adopt_now()
    eventually(lambda: survivor.remaining > 300, TIMEOUT_S, "the neighbour's events are adopted")
    own_kafka.start()
    eventually(lambda: survivor.remaining == 0, TIMEOUT_S, "all events are acknowledged")
    survivor.close()
    arrived = _first_copies(own_kafka.bootstrap, topic)
    numbers = {number for of_team in arrived.values() for number in of_team}
    assert numbers >= {*accepted, 99_000_000}
    assert list(tmp_path.iterdir()) == []
