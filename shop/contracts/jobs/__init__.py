"""The shop's job types, a module each: a function's bundle has those that it runs and starts, and no other."""
