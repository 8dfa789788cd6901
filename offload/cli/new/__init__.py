"""What `offload new` writes: a new app, from the templates beside this module."""
