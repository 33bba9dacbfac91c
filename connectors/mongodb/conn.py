"""The client for a MongoDB URL. The URL's path names the database."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote, urlsplit

from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.driver_info import DriverInfo
from pymongo.errors import ConfigurationError, InvalidName, InvalidURI
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from worker_sync.core.errors import ConfigError

Document = dict[str, Any]

#: By which the server's operations are known as ours.
APP_NAME: Final = "worker-sync"
#: Waiting for a primary, and for a connection, in milliseconds; a URL may say otherwise.
CONNECT_MS: Final = 5_000
#: Waiting for an answer, in milliseconds: longer than the server lets a transaction live (60 s).
ANSWER_MS: Final = 75_000
#: A commit that a majority does not confirm in this many milliseconds is tried again later.
MAJORITY_MS: Final = 30_000

MAJORITY: Final = WriteConcern("majority", wtimeout=MAJORITY_MS)
#: What a majority has can't be rolled back.
READ_MAJORITY: Final = ReadConcern("majority")

_EXACT: Final[dict[str, Any]] = {
    "uuid_representation": UuidRepresentation.UNSPECIFIED,
    "datetime_conversion": DatetimeConversion.DATETIME_MS,
}
#: Reads every BSON date and binary without loss.
PLAIN: Final[CodecOptions[Document]] = CodecOptions(dict, **_EXACT)
#: Leaves nested documents as they are stored: the driver takes one with a field `$ref` for a reference of its own.
RAW: Final[CodecOptions[RawBSONDocument]] = CodecOptions(RawBSONDocument, **_EXACT)


def redacted(url: str) -> str:
    """The URL without its password and without its options, which may hold secrets too."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    name = user.partition(":")[0]
    return f"{parts.scheme}://{name}{at}{hosts}{parts.path}"


def database_name(url: str) -> str:
    """The database that the URL's path names. Raises ConfigError when there is none."""
    name = unquote(urlsplit(url).path.removeprefix("/"))
    if not name:
        raise ConfigError(f"{redacted(url)} names no database: write it as the path, mongodb://HOST/DATABASE?...")
    return name


def open_database(url: str) -> Database[Document]:
    """The URL's database; connects on first use. Close it by `database.client.close()`.

    Raises ConfigError for a URL that can't be used.
    """
    name = database_name(url)
    try:
        client = _client(url)
        return client.get_database(name, PLAIN, write_concern=MAJORITY, read_concern=READ_MAJORITY)
    except (InvalidURI, ConfigurationError, InvalidName, ValueError) as error:
        # The driver's words may quote the URL, so only their kind is told.
        raise ConfigError(f"{redacted(url)} can't be used ({type(error).__name__}): see MongoDB's URL format") from None


def _client(url: str) -> MongoClient[Document]:
    defaults: dict[str, Any] = {
        "serverSelectionTimeoutMS": CONNECT_MS,
        "connectTimeoutMS": CONNECT_MS,
        "socketTimeoutMS": ANSWER_MS,
    }
    given = {option.partition("=")[0].lower() for option in urlsplit(url).query.split("&")}
    chosen = {name: value for name, value in defaults.items() if name.lower() not in given}
    return MongoClient(url, connect=False, appname=APP_NAME, driver=DriverInfo("worker-sync"), **chosen)
