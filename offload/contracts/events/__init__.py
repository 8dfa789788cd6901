"""Events as types: the contract, the envelope, the claim check, the entry on the bus, the audience."""
