"""Corpus readers: which files are real or fake, how they were made, and whom they show.

Each reader handles some layouts, which are recognized by their folders. A *group* is a person or a piece of footage and
is never split. A fake belongs to the group whose footage it shows, and names the other one, whose face was put in,
unless both are one group.
"""

from torchfakes_cli.training.corpora.read import read_corpus, select

__all__ = ["read_corpus", "select"]
