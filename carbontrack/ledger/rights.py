"""What a role has to be allowed to do to take what is shipped into a ledger on PostgreSQL."""

from __future__ import annotations

from carbontrack.errors import CarbontrackError
from carbontrack.ledger.transaction import WritableLedger
from carbontrack.ledger.url import redacted_url

_ADDS = ("select", "insert")
_CHANGES = (*_ADDS, "update")
_REPLACES = (*_CHANGES, "delete")
_TABLES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("stated", "imports", "tombstones", "clocks"), _ADDS),
    **dict.fromkeys(("devices", "events", "amendments"), (*_ADDS, "delete")),  # of removed runs
    "sensors": _CHANGES,
    **dict.fromkeys(("runs", "recordings", "steps", "overlaps", "live"), _REPLACES),
    **dict.fromkeys(("seconds", "odd_seconds", "minutes", "hours"), _REPLACES),
    **dict.fromkeys(("windows", "tokens"), ("select",)),
    "watermarks": ("select", "update"),
}
_NUMBERED = ("runs", "recordings", "devices", "sensors")
_FUNCTIONS = (
    "make_partitions(text, bigint[])",
    "drop_partition(text)",
    "roll_hours(bigint, integer)",
)


def check_rights(ledger: WritableLedger, url: str) -> None:
    """Raise CarbontrackError if our role lacks what writing batches takes, or the database's
    error.
    """
    with ledger.begin() as transaction:
        (role,) = transaction.ask("select current_user as name", {})
        lacking = [row["lacking"] for row in transaction.ask(_LACKING, {})]
    if lacking:
        more = f" and {len(lacking) - 1} more rights" if len(lacking) > 1 else ""
        raise CarbontrackError(
            f"The role {role['name']} lacks {lacking[0]}{more} in {redacted_url(url)}.",
            hint="Let the ledger's owner grant the role what docs/collector.md says of roles.",
        )


def _wanted() -> str:
    rights = [(table, right) for table, some in _TABLES.items() for right in some]
    tables = ", ".join(f"('{table}', '{right}')" for table, right in rights)
    sequences = ", ".join(f"('{table}')" for table in _NUMBERED)
    functions = ", ".join(f"('{function}')" for function in _FUNCTIONS)
    return (
        f"select may || ' on ' || name as lacking from (values {tables}) wanted(name, may) "
        "where not has_table_privilege(name, may) "
        f"union all select 'usage on the keys of ' || name from (values {sequences}) wanted(name) "
        "where not has_sequence_privilege(pg_get_serial_sequence(name, 'key'), 'usage') "
        f"union all select 'execute on ' || name from (values {functions}) wanted(name) "
        "where not has_function_privilege(name, 'execute') "
        # As whom partitions are made: in a restored database another one may own the schema.
        "union all select 'an owner of the ledger (' || pg_get_userbyid(proowner) || "
        "') with create on schema ' || nspname from pg_proc "
        "join pg_namespace on pg_namespace.oid = pronamespace "
        f"where pg_proc.oid = to_regprocedure('{_FUNCTIONS[0]}') "
        "and not has_schema_privilege(proowner, pronamespace, 'create')"
    )


_LACKING = _wanted()
