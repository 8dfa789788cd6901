"""Tells the team in Slack what somebody should look at: grouped, and at most once a minute a topic."""
