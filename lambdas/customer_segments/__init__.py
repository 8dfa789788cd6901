"""Puts every customer of an orders file into a segment."""
