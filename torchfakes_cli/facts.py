"""Facts: properties and diagnostics of a file, this machine or the installation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """Severity of a diagnostic: its effect on scans."""

    GOOD = "good"
    LIMITED = "limited"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Fact:
    """One diagnostic of this machine or installation, or one property of a file.

    Attributes:
        name, value: the property, and its value in a few words.
        why: reason or consequence, in a clause; may be empty.
        severity: ``broken`` if no scan can work.
    """

    name: str
    value: str
    why: str = ""
    severity: Severity = Severity.GOOD


class CredentialsState(StrEnum):
    """Result of checking a file for Content Credentials (C2PA)."""

    NOT_LOOKED = "not_looked"
    UNSUPPORTED = "unsupported"
    NONE = "none"
    UNREADABLE = "unreadable"
    INVALID = "invalid"
    VALID = "valid"
    TRUSTED = "trusted"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Content Credentials (C2PA) of a file: signed statements about its origin.

    Attributes:
        state: ``valid`` if the file is unchanged since it was signed, ``trusted`` if the signer is also known;
            ``not_looked`` if the library is missing, ``unsupported`` if the format can't have credentials.
        facts: statements on the signer, program, time and edits.
        problems: messages of the library if the credentials are invalid or unreadable.
    """

    state: CredentialsState
    facts: tuple[Fact, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Properties of a file and traces of its origin; all but size and checksum can be forged.

    Attributes:
        size: size in bytes.
        sha256: checksum of the whole file, in hexadecimal.
        facts: container, streams, and traces left by cameras and programs.
        credentials: Content Credentials of the file.
    """

    size: int
    sha256: str
    facts: tuple[Fact, ...]
    credentials: Credentials
