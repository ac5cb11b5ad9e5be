"""Durable steps: 64 workflows at once, each of 50 steps one after another; a step is one committed row of the journal.
Ours is the event log as a turn writes it: one event per step, one statement that is its own transaction, fenced by the
stream's generation, unique by its step, other processes told. The peer is DBOS. One process each, pools of 20
connections, the same database server; the rows are counted in the journals afterwards.
"""

from __future__ import annotations

from tests.bench.figures import RUNS, Cpu, Row, duration, listed, median_of, ratio_of
from tests.bench.places import durable_server, helper, peer

WORKFLOWS = 64
STEPS = 50
FACTOR = 3


def measure() -> list[Row]:
    """Run the scenario."""
    options = ["--workflows", str(WORKFLOWS), "--steps", str(STEPS)]
    ours, theirs = [], []
    with durable_server() as server:
        urls = [server.url(server.create_database()) for _ in range(2)]
        with helper("stepper", urls[0], *options) as stepper, peer("durable_steps.py", urls[1], *options) as dbos:
            stepper.ask()
            dbos.ask()
            cpu, their_cpu = Cpu([stepper.pid], server.pid), Cpu([dbos.pid], server.pid)
            for _ in range(RUNS):
                with cpu.counted(WORKFLOWS * STEPS):
                    ours.append(stepper.ask())
                with their_cpu.counted(WORKFLOWS * STEPS):
                    theirs.append(dbos.ask())
    for answer in (*ours, *theirs):
        if answer["steps"] != WORKFLOWS * STEPS:
            raise RuntimeError(f"{answer['steps']} steps are in the journal, not {WORKFLOWS * STEPS}")
    rates, peers = ([answer["steps_per_second"] for answer in answers] for answers in (ours, theirs))
    ratio = ratio_of(rates, peers)
    return [
        Row(
            name=f"durable steps, {WORKFLOWS} workflows: rate (p95: time of a step)",
            median=f"{median_of(rates):,.0f} /s",
            runs=listed(rates, peers) + " /s",
            p95=duration(median_of([answer["p95"] for answer in ours])),
            peer=f"{median_of(peers):,.0f} /s (ours: {ratio:.1f} ×)",
            bound=f"≥ {FACTOR} × DBOS",
            held=ratio >= FACTOR,
            cpu=f"{cpu.per_operation()}; peer {their_cpu.per_operation()}",
        )
    ]
