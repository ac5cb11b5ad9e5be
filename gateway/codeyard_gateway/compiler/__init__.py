"""From the descriptor set of the protos to everything the gateway runs on."""
