"""What the blocks of the configuration are made of."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, SecretStr
from pydantic_core import PydanticCustomError


class Block(BaseModel):
    """A mapping of the configuration: frozen, without unknown keys, without values in its errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False, hide_input_in_errors=True)


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("number", "Input should be a number, not true or false")
    return value


Int = Annotated[int, BeforeValidator(_no_bool)]
Seconds = Annotated[float, BeforeValidator(_no_bool)]

#: A shorter key could be guessed.
SHORTEST_KEY: Final = 32


def _long_key(key: SecretStr) -> SecretStr:
    if len(key.get_secret_value()) < SHORTEST_KEY:
        message = f"must have at least {SHORTEST_KEY} characters; openssl rand -base64 32 makes one"
        raise PydanticCustomError("key", message)
    return key


LongKey = Annotated[SecretStr, AfterValidator(_long_key)]
