"""Event and job types, and the envelope. Imports nothing of ours."""
