"""What the code relies on of AWS: each behaviour with its document, tried on each oracle that can tell.

`behaviour` declares one, the modules named after services hold them, `oracle` is where they are tried, and `table`
writes docs/conformance.md from the declarations.
"""
