"""Plans deliveries: one for each event and subscription."""
