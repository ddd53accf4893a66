"""Decodes videos in a child process, so that a hostile file affects only its own result.

``client`` starts and calls the process, ``server`` runs in it, ``sandbox`` removes its rights, and ``protocol`` is the
shared message format. Nothing is unpickled: messages are JSON, pixels are passed in shared memory.
"""
