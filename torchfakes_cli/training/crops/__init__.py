"""``prepare``: from a corpus to face crops and their manifest."""
