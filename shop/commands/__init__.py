"""The shop's own commands: groups of `offload`, named by the catalogue."""
