"""Makes the first user of a MongoDB on the loopback address, once it answers."""

import os
from pathlib import Path

from pymongo import MongoClient

root: MongoClient[dict[str, object]] = MongoClient("mongodb://127.0.0.1:27017", serverSelectionTimeoutMS=60_000)
with root as client:
    client.admin.command(
        "createUser",
        os.environ["MONGO_INITDB_ROOT_USERNAME"],
        pwd=Path(os.environ["MONGO_INITDB_ROOT_PASSWORD_FILE"]).read_text(),
        roles=["root"],
    )
