"""What the session's user may do to a table, from SHOW GRANTS."""

from __future__ import annotations

import re
from typing import Final

from connectors.mysql.conn import Connection, is_mariadb, query

#: What the table of streams needs.
NEEDED: Final = ("CREATE", "SELECT", "INSERT", "UPDATE", "DELETE")

_GRANT: Final = re.compile(r"GRANT (?P<rights>.+?) ON (?:TABLE )?(?P<schema>\S+)\.(?P<table>\S+) TO ", re.DOTALL)
_COLUMNS: Final = re.compile(r"\([^)]*\)")


def missing_on(conn: Connection, database: str, table: str) -> list[str]:
    """Which of `NEEDED` the user lacks on a table, roles included. Raises pymysql.Error."""
    granted: set[str] = set()
    for line in _grants(conn):
        found = _GRANT.match(line)
        if found and _covers(found["schema"], database) and _covers(found["table"], table):
            rights = {right.strip() for right in _COLUMNS.sub("", found["rights"]).split(",")}
            granted |= set(NEEDED) if "ALL PRIVILEGES" in rights else rights
    return [right for right in NEEDED if right not in granted]


def _grants(conn: Connection) -> list[str]:
    statement = "SHOW GRANTS"
    if not is_mariadb(conn):
        ((roles,),) = query(conn, "SELECT CURRENT_ROLE()")
        if roles and roles != "NONE":
            statement = f"SHOW GRANTS FOR CURRENT_USER() USING {roles}"
    return [row[0] for row in query(conn, statement)]


def _covers(pattern: str, name: str) -> bool:
    """Whether a schema or table of a grant, with its wildcards, means that name."""
    if pattern == "*":
        return True
    text = pattern.strip("`").replace("``", "`")
    parts = re.split(r"(\\.|%|_)", text)
    expression = "".join({"%": ".*", "_": "."}.get(part) or re.escape(part.removeprefix("\\")) for part in parts)
    return re.fullmatch(expression, name, re.IGNORECASE) is not None
