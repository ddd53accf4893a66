"""Decodes videos in a child process, so that a hostile file costs no more than itself.

``client`` starts the process and asks it, ``server`` runs in it, ``sandbox`` takes its rights away, and ``protocol`` is
what both sides share. Nothing is unpickled: messages are JSON, pixels travel through shared memory.
"""
