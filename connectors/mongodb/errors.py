"""The driver's errors as ours.

What a retry of the whole transaction mends is told apart by the server's own labels; `retryable` asks for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from bson.errors import BSONError
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    ConnectionFailure,
    DocumentTooLarge,
    ExecutionTimeout,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WTimeoutError,
)

from worker_sync.core.errors import (
    ConfigError,
    Halt,
    Permanent,
    State,
    TargetRejected,
    Transient,
    Unreachable,
    WorkerSyncError,
)

DUPLICATE_KEY: Final = 11000
NAMESPACE_EXISTS: Final = 48
UNAUTHORIZED: Final = 13
NAMESPACE_NOT_FOUND: Final = 26
AUTHENTICATION_FAILED: Final = 18
ILLEGAL_OPERATION: Final = 20
#: The collection was dropped, or dropped and made anew, since its id was asked.
COLLECTION_UUID_MISMATCH: Final = 361
#: TransactionExceededLifetimeLimitSeconds, and NoSuchTransaction: what the next command of an ended transaction gets.
TRANSACTION_ENDED: Final = frozenset({251, 290})
#: TransactionTooLargeForCache: doing it over is of no use, doing less of it is.
TOO_LARGE_FOR_CACHE: Final = frozenset({364, 388})
#: ChangeStreamFatalError, ChangeStreamHistoryLost: the oplog doesn't hold what a change stream was to begin with.
HISTORY_LOST: Final = frozenset({280, 286})
#: CappedPositionLost: the oplog was cut off under a reader; where it can begin again is found out by doing so.
CAPPED_POSITION_LOST: Final = 136
#: KeyNotFound: a server that has just started has not read yet the keys by which it checks its clients' cluster times.
KEYS_NOT_READ: Final = 211
#: The driver, about a connection whose server had not taken its place in the replica set yet when it was opened: one
#: that has just been started. Every server that we support has sessions.
NO_SESSIONS_YET: Final = "Sessions are not supported"
#: BSONObjectTooLarge
TOO_LARGE: Final = 10334
#: The row itself is at fault: too large, too deep, fails validation, or an _id that can't be one.
REJECTED: Final = frozenset({2, 15, 17, 52, 53, 56, 57, 66, 121, 10334, 17280, 17419, 17420, DUPLICATE_KEY})
#: Shutdown, stepdown, failover, lock and time limits, interrupted operations.
TRANSIENT: Final = frozenset(
    {
        6,
        7,
        24,
        43,
        50,
        64,
        89,
        91,
        112,
        134,
        CAPPED_POSITION_LOST,
        189,
        202,
        KEYS_NOT_READ,
        237,
        246,
        251,
        262,
        290,
        313,
        317,
        10107,
        11600,
        11602,
    }
    | {13388, 13435, 13436}
)
LIFETIME_HINT: Final = (
    "the server ended the transaction: either its primary changed, or it outlived transactionLifetimeLimitSeconds "
    "(60 by default); then make batches smaller, or raise that limit"
)


def retryable(error: PyMongoError) -> bool:
    """The server undid the transaction and says that the same one may succeed now.

    A transaction that the server ended for its age would only grow as old again.
    """
    ended = isinstance(error, OperationFailure) and error.code in TRANSACTION_ENDED
    return error.has_error_label("TransientTransactionError") and not ended


def outcome_unknown(error: PyMongoError) -> bool:
    """The commit may or may not have happened; asking for it again is safe."""
    return error.has_error_label("UnknownTransactionCommitResult")


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turns the driver's errors into ours. `where` is the redacted URL."""
    try:
        yield
    except (PyMongoError, BSONError) as error:
        raise translate(error, where) from error


def translate(error: PyMongoError | BSONError, where: str) -> WorkerSyncError:
    """Our error for the driver's. Values of rows are left out: the server quotes them in some messages."""
    if isinstance(error, DocumentTooLarge):
        return TargetRejected(f"{where}: a document is larger than MongoDB's 16 MB")
    if isinstance(error, BSONError):
        return TargetRejected(f"{where}: a document can't be written as BSON ({type(error).__name__})")
    if isinstance(error, ExecutionTimeout | WTimeoutError):
        return Transient(f"{where}: {_brief(error)}")
    if isinstance(error, OperationFailure):
        return _translate_failure(error, where)
    if isinstance(error, ServerSelectionTimeoutError | ConnectionFailure | NetworkTimeout | AutoReconnect):
        return Unreachable(f"{where}: {_brief(error)}")
    if isinstance(error, ConfigurationError) and NO_SESSIONS_YET in str(error):
        return Transient(f"{where}: the server was still starting when the connection was opened")
    return Permanent(f"{where}: {type(error).__name__}: {_brief(error)}")


def _translate_failure(error: OperationFailure, where: str) -> WorkerSyncError:
    code = error.code or 0
    if code == AUTHENTICATION_FAILED:
        return ConfigError(f"{where}: MongoDB refused the user name or password (is authSource=... right in the URL?)")
    if code == UNAUTHORIZED:
        detail = f"{where}: the user lacks a privilege: {_brief(error)}"
        return Halt(State.PREFLIGHT_FAILED, detail, "worker-sync check, which names the missing grant")
    if code == ILLEGAL_OPERATION and "replica set" in str(error):
        return not_a_replica_set(where)
    if code in TRANSACTION_ENDED:
        return Transient(f"{where}: {LIFETIME_HINT}")
    if code in TOO_LARGE_FOR_CACHE:
        return Permanent(
            f"{where}: the batch is too large for one transaction in the server's cache: make batches smaller"
        )
    if code in HISTORY_LOST:
        detail = f"{where}: the oplog does not reach back to where the stream stands: {_brief(error)}"
        return Halt(State.POSITION_LOST, detail, "worker-sync resync PIPELINE")
    if code in TRANSIENT or retryable(error) or outcome_unknown(error):
        return Transient(f"{where}: {_brief(error)}")
    if code in REJECTED:
        return TargetRejected(f"{where}: {rejection(error.details, code)}")
    return Permanent(f"{where}: MongoDB error {code}: {_brief(error)}")


def not_a_replica_set(where: str) -> Halt:
    return Halt(
        State.PREFLIGHT_FAILED,
        f"{where}: a standalone server has no transactions",
        "start mongod with --replSet rs0 and run rs.initiate() once; one node is enough",
    )


def rejection(details: Mapping[str, Any] | None, code: int) -> str:
    """Why the server refused a row, in words that hold nothing of the row."""
    if code == DUPLICATE_KEY:
        pattern = (details or {}).get("keyPattern") or {}
        return f"duplicate key in the unique index on ({', '.join(pattern)})"
    name = (details or {}).get("codeName", "")
    if code in (10334, 17419, 17420, 17280):
        return "a document is larger than MongoDB's 16 MB"
    return f"MongoDB error {code} {name}".rstrip()


def _brief(error: Exception) -> str:
    """The first sentence of the driver's message; the rest is its description of the topology."""
    return str(error).partition(", full error:")[0].partition(" (configured timeouts:")[0]
