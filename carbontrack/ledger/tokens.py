"""The tokens of a team's ledger. Each lets nodes write into one project; only its hash is kept."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator

from carbontrack.errors import CarbontrackError, NotFoundError
from carbontrack.ledger.rows import Token
from carbontrack.ledger.tables import TOKENS
from carbontrack.ledger.transaction import Transaction

PREFIX = "carbontrack_"
_SECRET_BYTES = 32  # so random that a fast hash of it is as good as a slow one
_SHOWN = 12  # hexadecimal digits by which people name a token


def add(transaction: Transaction, project: str, now_ms: int) -> str:
    """A new token of a project; the secret, which is known nowhere else.

    Raises CarbontrackError for an empty project.
    """
    if not project.strip():
        raise CarbontrackError("the project is empty.", hint="Example: collect token add nlp")
    secret = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    transaction.write(TOKENS.insert_once, [TOKENS.written(Token(hash_of(secret), project, now_ms))])
    return secret


def listing(transaction: Transaction) -> list[Token]:
    """All of them, oldest first."""
    return list(_found(transaction))


def revoke(transaction: Transaction, name: str, now_ms: int) -> Token:
    """Let a token write no longer, by the beginning of its hash; again changes nothing.

    Raises NotFoundError if none or several begin so.
    """
    found = [token for token in _found(transaction) if name and token.hash.startswith(name)]
    if len(found) != 1:
        how_many = "No token" if not found else f"{len(found)} tokens"
        raise NotFoundError(
            f"{how_many} of this ledger begin{'s' if not found else ''} with {name!r}.",
            hint="List them: carbontrack collect token list",
        )
    transaction.write(
        "update tokens set revoked_ms = :now where hash = :hash and revoked_ms is null",
        [{"hash": found[0].hash, "now": now_ms}],
    )
    return found[0]


def project_of(transaction: Transaction, secret: str) -> str | None:
    """The project that a secret lets write into; None for one that does not, or no longer."""
    found = transaction.ask(
        "select project from tokens where hash = :hash and revoked_ms is null",
        {"hash": hash_of(secret)},
    )
    return next((str(row["project"]) for row in found), None)


def hash_of(secret: str) -> str:
    """What is stored of a token."""
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


def name_of(token: Token) -> str:
    """How people name a token."""
    return token.hash[:_SHOWN]


def _found(transaction: Transaction) -> Iterator[Token]:
    found = transaction.ask(
        "select hash, project, made_ms, revoked_ms from tokens order by made_ms, hash", {}
    )
    return map(TOKENS.read, found)
