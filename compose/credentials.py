"""Makes the passwords of compose.yaml's servers at the first start, and the files by which the servers take them.

Run by the service `credentials` in the image of Worker-Sync; what is there already stays. DIRECTORY is the volume,
BROKER `redis` or `rabbitmq`. Files may be read by the group of the user 10001, to which compose.yaml adds every server.
"""

import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

MODE = 0o440
BROKERS = {"redis": "redis://:{}@redis:6379/0", "rabbitmq": "amqp://worker-sync:{}@rabbitmq:5672/worker-sync"}
PASSWORDS = (
    "postgres",  # of the superuser
    "mariadb",  # of root
    "mongodb",  # of root
    "databases",  # of the user worker_sync in all of them
    "redis",
    "rabbitmq",
    "flower",
    "grafana",
)


def password() -> str:
    return secrets.token_hex(24)


def mongodb_key() -> str:
    """What members of a replica set know each other by; it has to be base64."""
    return secrets.token_urlsafe(300).replace("-", "+").replace("_", "/")


def keep(path: Path, make: Callable[[], str]) -> str:
    """The content of the file, which is made where it is missing."""
    if not path.exists():
        write(path, make())
    return path.read_text()


def write(path: Path, text: str) -> None:
    """All or nothing."""
    draft = path.with_name(f".{path.name}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE), "w") as file:
        file.write(text)
    draft.rename(path)


def main(directory: Path, broker: str) -> None:
    if broker not in BROKERS:
        sys.exit(f"BROKER is {broker!r}; set it to {' or '.join(BROKERS)}")
    made = {name: keep(directory / name, password) for name in PASSWORDS}
    keep(directory / "mongodb.key", mongodb_key)
    write(directory / "broker", BROKERS[broker].format(made[broker]))
    write(directory / "redis.conf", f"requirepass {made['redis']}\nappendonly yes\nmaxmemory-policy noeviction\n")
    write(
        directory / "rabbitmq.conf",
        f"default_vhost = worker-sync\ndefault_user = worker-sync\ndefault_pass = {made['rabbitmq']}\n",
    )
    client = f"[client]\nuser = root\npassword = {made['mariadb']}\nhost = 127.0.0.1\n"
    write(directory / "mariadb.cnf", client)


if __name__ == "__main__":
    main(Path(os.environ["DIRECTORY"]), os.environ["BROKER"])
