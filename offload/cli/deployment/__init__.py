"""An environment as it is deployed: its resources, its functions' logs, and what commands share."""
