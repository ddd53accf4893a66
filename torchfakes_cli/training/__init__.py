"""From a corpus to a detector: ``corpora``, ``crops``, ``fit`` and ``evaluate``, one package a step."""
