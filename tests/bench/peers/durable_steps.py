"""Peer of the durable steps: DBOS, which journals every step of a workflow as a committed row in Postgres.

    DATABASE_URL=postgresql://… python durable_steps.py --workflows 64 --steps 50

After the line ``ready`` every line on stdin runs one round: that many workflows at once, each of that many steps. The
answer is one line of JSON: ``{"steps", "seconds", "steps_per_second"}``. ``steps`` is counted in DBOS's journal, not
assumed. The end of stdin ends the program. A round before ``ready`` warms the pool and the statement caches up.

One process is bound by Python's lock at about one core. For two, start two programs one after the other on the same
database, with half of the workflows and another ``--executor`` each, and add their steps. Tried, without a difference
beyond the noise: pools of 8, 20 and 64 connections, synchronous workflows in threads, uvloop.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
import uuid

import sqlalchemy
from dbos import DBOS, DBOSConfig, SetWorkflowID
from sqlalchemy.engine import make_url

_WARM_UP_STEPS = 5
_COUNT = sqlalchemy.text("SELECT count(*) FROM dbos.operation_outputs WHERE workflow_uuid LIKE :prefix")


@DBOS.step()
async def step(number: int) -> int:
    """Do nothing: what is measured is the journal."""
    return number


@DBOS.workflow()
async def workflow(steps: int) -> int:
    """Run the steps one after another, as an agent's turn does."""
    total = 0
    for number in range(steps):
        total += await step(number)
    return total


async def run_round(engine: sqlalchemy.Engine, workflows: int, steps: int) -> dict[str, float]:
    """Run the workflows at once and return the figures of the round."""
    name = uuid.uuid4().hex
    started = time.perf_counter()
    handles = []
    for number in range(workflows):
        with SetWorkflowID(f"{name}-{number}"):
            handles.append(await DBOS.start_workflow_async(workflow, steps))
    await asyncio.gather(*(handle.get_result() for handle in handles))
    seconds = time.perf_counter() - started
    with engine.connect() as connection:
        journaled: int = connection.execute(_COUNT, {"prefix": f"{name}-%"}).scalar_one()
    return {"steps": journaled, "seconds": seconds, "steps_per_second": journaled / seconds}


async def serve(workflows: int, steps: int, executor: str) -> None:
    """Answer each line of stdin with the figures of a round."""
    url = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg")
    config: DBOSConfig = {
        "name": "peer",
        "executor_id": executor,
        "system_database_url": url.render_as_string(hide_password=False),
        "sys_db_pool_size": 20,
        "log_level": "ERROR",
    }
    DBOS(config=config)
    DBOS.launch()
    engine = sqlalchemy.create_engine(url)
    await run_round(engine, workflows, _WARM_UP_STEPS)
    print("ready", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await run_round(engine, workflows, steps)), flush=True)
    DBOS.destroy()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workflows", type=int, default=64)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--executor", default="local", help="name of this process among those on one database")
    options = parser.parse_args()
    asyncio.run(serve(options.workflows, options.steps, options.executor))


if __name__ == "__main__":
    main()
