"""The detector that ships, and its model card."""
