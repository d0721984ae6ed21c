"""Traces are recognised by their header, read exactly, and refused as a whole where broken."""

from pathlib import Path

import pytest

from meterstream.cli.errors import BadInput
from meterstream.cli.traffic.population import Sizes
from meterstream.cli.traffic.replaying import replay_job
from meterstream.cli.traffic.trace import load_trace
from meterstream.schemas.times import parse_rfc3339, to_us

AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:17:03.9799600,4808,10\n"
    "2023-11-16 18:17:04.0319605,3180,8\n"
)
MOONCAKE = "timestamp_ms,input_length,output_length\n0,6758,500\n27482,7322,490\n"
OWN = (
    "time,team_id,user_id,input_tokens,latency_us,status,id\n"
    "2026-01-31T12:00:00Z,blue,ann,100,5000,completed,a\n"
    "2026-01-31T13:00:01+01:00,red,,200,7000,failed,b\n"
)


def _file(directory: Path, text: str) -> Path:
    path = directory / "trace.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_azure(tmp_path: Path) -> None:
    """Seven decimals are rounded to the microsecond, half up, and times without zone are UTC."""
    trace = load_trace(_file(tmp_path, AZURE))
    assert trace.format.name == "Azure LLM inference"
    assert (trace.rows, trace.input_tokens, trace.output_tokens) == (2, 7988, 18)
    assert trace.first_us == to_us(parse_rfc3339("2023-11-16T18:17:03.979960Z"))
    assert trace.last_us == to_us(parse_rfc3339("2023-11-16T18:17:04.031961Z"))
    assert {"team_id", "user_id", "agent_id", "latency_us", "id"} <= trace.lacks


def test_azure_with_offsets(tmp_path: Path) -> None:
    """The form with offsets, as in later years of that trace, is the same format."""
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.009930+00:00,2162,5\n"
    assert load_trace(_file(tmp_path, text)).first_us % 1_000_000 == 9930


def test_mooncake(tmp_path: Path) -> None:
    """Milliseconds from any start become microseconds."""
    trace = load_trace(_file(tmp_path, MOONCAKE))
    assert trace.format.name == "Mooncake"
    assert (trace.first_us, trace.last_us) == (0, 27_482_000)
    assert (trace.input_tokens, trace.output_tokens) == (14_080, 990)


def test_own_csv_names_fields(tmp_path: Path) -> None:
    """What an own CSV names is taken, an empty optional cell is absent, the rest is lacking."""
    trace = load_trace(_file(tmp_path, OWN))
    first, second = trace
    assert first.fields["user_id"] == "ann"
    assert "user_id" not in second.fields
    assert second.time_us - first.time_us == 1_000_000
    assert trace.lacks == {"agent_id", "model", "time_to_first_token_us"}


def test_the_same_content_is_the_same_trace(tmp_path: Path) -> None:
    """A trace is known by its content, so a copy under another name is the same set of runs."""
    (tmp_path / "copy").mkdir()
    one, other = load_trace(_file(tmp_path, AZURE)), load_trace(_file(tmp_path / "copy", AZURE))
    assert replay_job(one, Sizes(), 0).source == replay_job(other, Sizes(), 0).source
    assert replay_job(one, Sizes(), 0).source != replay_job(one, Sizes(), 1).source


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no known trace"),
        ("a,b\n1,2\n", "no known trace"),
        (AZURE.splitlines()[0] + "\n", "no rows"),
        (AZURE + "2023-11-16 18:17:05,12\n", "line 4: 2 cells"),
        (AZURE + "yesterday,1,2\n", "line 4: not an RFC 3339 time"),
        (AZURE + "2023-11-16 18:17:05,-1,2\n", "line 4: '-1' is not a whole number"),
        (AZURE + "2023-11-16 18:17:05,1.5,2\n", "line 4: '1.5' is not a whole number"),
        (AZURE + "2023-11-16 18:17:05,9999999999,2\n", "line 4: 9999999999 tokens are more"),
        (MOONCAKE + "soon,1,2\n", "line 4: 'soon' is not"),
        ("time,time\n", "names a column twice"),
        ("time,imput_tokens\n2026-01-31T12:00:00Z,1\n", "no run event has: imput_tokens"),
        ("time,team_id\n2026-01-31T12:00:00Z,\n", "line 2: team_id is empty"),
        ("time,team_id\n2026-01-31 12:00:00,x\n", "line 2: not an RFC 3339 time"),
    ],
)
def test_a_broken_trace_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    """Whatever is wrong with a trace is found before anything is sent, and its line is named."""
    with pytest.raises(BadInput, match=said):
        load_trace(_file(tmp_path, text))


def test_a_trace_that_is_not_text_is_refused(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are named as such."""
    path = tmp_path / "trace.csv"
    path.write_bytes(AZURE.encode() + b"\xff\xfe,1,2\n")
    with pytest.raises(BadInput, match="not text in UTF-8"):
        load_trace(path)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("2026-01-31T12:00:00Z,blue,ann,1,5000,lost,c", "line 4: data.status"),
        ("2026-01-31T12:00:00Z,blue,ann,1,5000,failed,a", "line 4: id 'a' of team 'blue'"),
    ],
)
def test_own_rows_are_held_against_the_contract(tmp_path: Path, row: str, said: str) -> None:
    """A field out of the contract's bounds, or an identity given twice, stops the replay."""
    trace = load_trace(_file(tmp_path, OWN + row + "\n"))
    with pytest.raises(BadInput, match=said):
        replay_job(trace, Sizes(), 0)
