"""What every domain stands on: errors, database, event log and fan-out, queue, RPC registration. No business words."""
