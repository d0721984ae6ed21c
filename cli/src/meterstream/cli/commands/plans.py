"""`meterstream plans`: what teams can subscribe to."""

from pathlib import Path

import click

from meterstream.cli.commands.catalog import publish_file
from meterstream.cli.connection import connect
from meterstream.cli.entries.waiting import wait_option
from meterstream.cli.errors import BadInput
from meterstream.cli.options import data_option, json_option
from meterstream.cli.output import note, print_json, print_table


@click.group()
def plans() -> None:
    """Publish and show plans. A version that was published never changes."""


@plans.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Write nothing, only check it.")
@wait_option
@data_option
@json_option
def publish(file: Path, dry_run: bool, wait: bool, data: Path | None, as_json: bool) -> None:
    """Publish a plan, or a list of them, from a YAML file.

    Fields are those of plan.published in docs/events.md; amounts are millionths of a credit.

    \b
    Example:
      meterstream plans publish docs/examples/plans.yaml
    """
    publish_file(file, "plans", {}, dry_run=dry_run, wait=wait, data=data, as_json=as_json)


@plans.command("list")
@data_option
@json_option
def list_plans(data: Path | None, as_json: bool) -> None:
    """List all versions of all plans.

    \b
    Example:
      meterstream plans list --json
    """
    from meterstream.cli.entries.known import read_catalog
    from meterstream.cli.money import exact_credits
    from meterstream.schemas.catalog import PlanPublished

    found = [event.data for event in read_catalog(connect(data)).of(PlanPublished)]
    if as_json:
        print_json({"plans": [plan.model_dump(mode="json") for plan in found]})
        return
    if not found:
        note("note: no plans are published. `meterstream plans publish` publishes some")
        return
    print_table(
        ["plan", "name", "tier", "allowance", "rollover cap", "overdraft", "retention days"],
        [
            [
                f"{plan.plan_id}@{plan.version}",
                plan.name,
                plan.tier,
                exact_credits(plan.allowance_credits_micro),
                exact_credits(plan.rollover_cap_micro),
                exact_credits(plan.overdraft_micro),
                plan.retention_days,
            ]
            for plan in found
        ],
        left=3,
    )


@plans.command()
@click.argument("plan", metavar="PLAN@VERSION")
@data_option
def show(plan: str, data: Path | None) -> None:
    """Print a plan as JSON, which `plans publish` takes as well.

    \b
    Example:
      meterstream plans show team-1000@1
    """
    from meterstream.cli.entries.known import read_catalog
    from meterstream.schemas.catalog import PlanPublished

    for event in read_catalog(connect(data)).of(PlanPublished):
        if plan == f"{event.data.plan_id}@{event.data.version}":
            print_json(event.data.model_dump(mode="json"))
            return
    raise BadInput(f"there is no plan {plan}: `meterstream plans list` names them")
