"""The supervisor: order, readiness, restarts, and an end without leftovers."""

import http.server
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from tests.support.waiting import eventually

from meterstream.local.errors import StartError
from meterstream.local.ports import free_ports
from meterstream.local.service import Service
from meterstream.local.supervisor import RestartPolicy, StackEvent, Supervisor, rotate

_SLEEP = "import time; time.sleep(600)"
_FAST = RestartPolicy(limit=2, first_pause_s=0.01, longest_pause_s=0.02)
_WEB = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Handler.asked += 1
        self.send_response(200 if Handler.asked > 2 else 503)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
_PARENT = """
import sys
from pathlib import Path
from meterstream.local.service import Service
from meterstream.local.supervisor import Supervisor
log = Path(sys.argv[1])
argv = [sys.executable, "-c", "import time; time.sleep(600)"]
children = [Service(name, argv, log / f"{name}.log") for name in ("first", "second")]
def tell(event):
    print(event.kind, event.name, flush=True)
try:
    with Supervisor(children, on_event=tell) as supervisor:
        print("pids", *(child.pid for child in children), flush=True)
        supervisor.run()
except KeyboardInterrupt:
    pass  # it came before `run`
"""


def _service(tmp_path: Path, name: str, code: str = _SLEEP) -> Service:
    return Service(name, [sys.executable, "-c", code], tmp_path / f"{name}.log")


def _kinds(events: list[StackEvent]) -> list[str]:
    return [f"{event.kind} {event.name}" for event in events]


def test_services_can_be_started_at_once(tmp_path: Path) -> None:
    """None waits for the one before it, all are ready at the end, and one that fails stops all."""
    events: list[StackEvent] = []
    last = _service(tmp_path, "last")
    first = _service(tmp_path, "first")
    first.ready = lambda: last.running
    with Supervisor([first, last], at_once=True, on_event=events.append):
        assert _kinds(events) == ["starting first", "starting last", "ready first", "ready last"]
    assert not first.running
    assert not last.running
    broken = _service(tmp_path, "broken", "raise SystemExit('it has no file')")
    broken.ready = lambda: False
    with pytest.raises(StartError, match="it has no file"):
        Supervisor([first, last, broken], at_once=True).start()
    assert not first.running
    assert not last.running


def test_children_start_in_order_and_stop_in_reverse(tmp_path: Path) -> None:
    """What depends on another comes after it and goes before it."""
    events: list[StackEvent] = []
    children = [_service(tmp_path, name) for name in ("broker", "sink", "meter")]
    with Supervisor(children, on_event=events.append):
        pass
    starts = [line for name in ("broker", "sink", "meter") for line in (name, name)]
    assert [event.name for event in events[:6]] == starts
    stops = ["stopping meter", "stopping sink", "stopping broker"]
    assert [line for line in _kinds(events) if line.startswith("stopping")] == stops
    assert not any(child.running for child in children)


def test_a_service_is_ready_when_its_url_says_so(tmp_path: Path) -> None:
    """The next child is not started while the one before it answers 503."""
    (port,) = free_ports(1)
    web = Service(
        "web",
        [sys.executable, "-c", _WEB, str(port)],
        tmp_path / "web.log",
        ready=f"http://127.0.0.1:{port}/readyz",
    )
    with Supervisor([web]):
        assert web.is_ready()


def test_a_taken_port_is_told_before_anything_starts(tmp_path: Path) -> None:
    """Another process that answers on the port is never taken for the service."""
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    web = _service(tmp_path, "web")
    web.ready = f"http://127.0.0.1:{server.server_port}/"
    with pytest.raises(StartError, match=f"port {server.server_port} of web is in use"):
        web.start()
    server.shutdown()
    server.server_close()


def test_a_failed_start_stops_what_was_started(tmp_path: Path) -> None:
    """The error shows the failed child's last lines, and the others are stopped."""
    first = _service(tmp_path, "first")
    broken = _service(tmp_path, "meter", "raise SystemExit('no such topic')")
    broken.ready = lambda: False
    with pytest.raises(StartError, match="no such topic"):
        Supervisor([first, broken]).start()
    assert not first.running


def test_a_service_that_fails_is_started_again(tmp_path: Path) -> None:
    """A killed service comes back as another process, and the failure is told."""
    events: list[StackEvent] = []
    meter = _service(tmp_path, "meter")
    with Supervisor([meter], policy=_FAST, on_event=events.append) as supervisor:
        before = meter.pid
        psutil.Process(before).kill()

        def is_back() -> bool:
            supervisor.tick()
            return meter.running and meter.pid != before

        eventually(is_back, 30, "the service runs again")
    assert _kinds(events)[2:4] == ["failed meter", "restarting meter"]


def test_a_service_that_always_fails_ends_the_stack(tmp_path: Path) -> None:
    """After the limit the reason is raised, with the last lines."""
    broken = _service(tmp_path, "broken", "raise SystemExit('cannot go on')")
    supervisor = Supervisor([broken], policy=_FAST)
    with pytest.raises(StartError, match=r"(?s)cannot go on.*failed 3 times"), supervisor:
        supervisor.run()


def test_a_stop_can_be_asked_for_from_another_thread(tmp_path: Path) -> None:
    """`run` returns, and leaving the context stops the children."""
    meter = _service(tmp_path, "meter")
    with Supervisor([meter]) as supervisor:
        threading.Timer(0.1, supervisor.ask_to_stop).start()
        supervisor.run()
        assert meter.running
    assert not meter.running


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_everything_in_reverse_order(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C and SIGTERM end the stack in order and with exit code 0."""
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    shown = [parent.stdout.readline().strip() for _ in range(5)]
    assert shown[-1].startswith("pids")
    parent.send_signal(number)
    rest, _ = parent.communicate(timeout=60)
    assert rest.split("\n")[:-1] == [
        "stopping second", "stopped second", "stopping first", "stopped first"
    ]  # fmt: skip
    assert parent.returncode == 0


def test_nothing_is_left_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    """After kill -9 of the supervisor all of its children are gone."""
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    shown = [parent.stdout.readline() for _ in range(5)]
    pids = [int(pid) for pid in re.findall(r"\d+", shown[-1])]
    assert len(pids) == 2
    parent.kill()
    parent.wait(30)
    eventually(lambda: not any(map(psutil.pid_exists, pids)), 30, "both children are gone")
    parent.stdout.close()


def test_a_log_that_grew_too_large_is_moved_aside(tmp_path: Path) -> None:
    """Its writer goes on in the emptied file, and the old text is kept once."""
    log = tmp_path / "x.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"a" * 100)
        assert not rotate(log, limit_bytes=100)
        writer.write(b"b")
        assert rotate(log, limit_bytes=100)
        writer.write(b"c")
    assert log.read_bytes() == b"c"
    assert (tmp_path / "x.log.1").read_bytes() == b"a" * 100 + b"b"
