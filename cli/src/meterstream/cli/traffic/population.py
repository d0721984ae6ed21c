"""Who runs what: teams, their users and agents, and the models, all made from a seed."""

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Final

from meterstream.cli.errors import BadInput

MODELS: Final = (
    ("claude-sonnet-5-5", "anthropic"),
    ("gpt-5.4-mini", "openai"),
    ("gemini-3.5-flash", "google"),
    ("llama-3.3-70b-versatile", "groq"),
    ("magistral-medium-latest", "mistral"),
    ("claude-haiku-4-5", "anthropic"),
)
AGENTS_A_USER: Final = 2
"""A user works with this many of the team's agents; a real user does not use them all."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One who runs: a user of a team, with the agent and the model this run uses."""

    team_id: str
    user_id: str
    agent_id: str
    model: str
    provider: str


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many there are of each."""

    teams: int = 6
    users: int = 60
    agents: int = 12
    models: int = 4

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be filled, all at once."""
        faults = [
            f"--{name} must be at least {least}, not {value}"
            for name, value, least in (
                ("teams", self.teams, 1),
                ("users", self.users, self.teams),
                ("agents", self.agents, self.teams),
                ("models", self.models, 1),
            )
            if value < least
        ]
        if faults:
            raise BadInput("; ".join(faults) + ": each team has a user and an agent of its own")


class Population:
    """Callers drawn from a seed: some teams are busy, most are not.

    Every whole draw takes the same numbers from the seed's stream, so that what one run is
    given does not depend on what another one names itself.
    """

    def __init__(self, sizes: Sizes, seed: int) -> None:
        self._sizes = sizes
        self._random = Random(f"{seed}:callers")
        # Zipf's weights, in whole numbers: the same on every machine.
        self._team_weights = list(
            accumulate(1_000_000 // (rank + 1) for rank in range(sizes.teams))
        )
        self._callers: dict[int, Caller] = {}

    def draw(self) -> Caller:
        """Return the caller of the next run."""
        number = self._random.randrange(self._team_weights[-1])
        team = bisect_right(self._team_weights, number)
        user = self._random.randrange(_share(self._sizes.users, self._sizes.teams, team))
        pick = self._random.randrange(AGENTS_A_USER)
        key = (team * self._sizes.users + user) * AGENTS_A_USER + pick
        caller = self._callers.get(key)
        if caller is None:
            caller = self._callers[key] = self._caller(team, user, pick)
        return caller

    def _caller(self, team: int, user: int, pick: int) -> Caller:
        teams = self._sizes.teams
        agent = (user + pick) % _share(self._sizes.agents, teams, team)
        agent_number = agent * teams + team
        model, provider = model_name(agent_number % self._sizes.models)
        return Caller(
            team_id=f"team-{team + 1}",
            user_id=f"user-{user * teams + team + 1:04d}",
            agent_id=f"agent-{agent_number + 1:03d}",
            model=model,
            provider=provider,
        )


def model_name(number: int) -> tuple[str, str]:
    """Return the name and the provider of the model of that number, from 0 on."""
    name, provider = MODELS[number % len(MODELS)]
    generation = number // len(MODELS)
    return (f"{name}-{generation + 1}" if generation else name), provider


def _share(total: int, teams: int, team: int) -> int:
    """Return how many of `total`, dealt out in turn, the team of that number gets."""
    return (total - team - 1) // teams + 1
