"""Settings: one typed object filled by flags, the environment and an env file, in this order of weight."""

import os
from pathlib import Path
from typing import Annotated, Any

from dotenv import load_dotenv
from pydantic import AliasChoices, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from backend.errors import ConfigError
from backend.types import FetchLimits, ImageLimits

ENV_PREFIX = "SIGHTLINE_"
MEGA = 1_000_000


def _default_data_dir() -> Path:
    """The XDG base directory for a person's own data (freedesktop.org, XDG Base Directory 0.8)."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "sightline"


class Settings(BaseSettings):
    """Everything that can be set. The description of a field is its text in ``--help``."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", validate_by_name=True
    )

    model: str | None = Field(
        None, description="Model to load: a Hugging Face id or a folder. [default: demo]"
    )
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 opens the app to the network.")
    port: int = Field(
        7860,
        ge=1,
        le=65535,
        description="Port to listen on.",
        validation_alias=AliasChoices("SIGHTLINE_PORT", "GRADIO_SERVER_PORT"),
    )
    data_dir: Path = Field(
        default_factory=_default_data_dir, description="Folder for chats, pictures and logs."
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Further host names under which people reach the app (behind a proxy), comma-separated.",
    )
    system_prompt: str = Field("", description="System prompt that new chats start with.")
    max_file_mb: int = Field(20, ge=1, description="Megabytes per picture, uploaded or fetched.")
    max_megapixels: int = Field(64, ge=1, description="Megapixels per picture.")
    image_side: int = Field(
        1540,
        ge=64,
        description="Longest side of a picture as the model gets it, in pixels; larger ones are reduced.",
    )
    max_images_per_message: int = Field(10, ge=1, description="Pictures per message.")
    max_images_per_chat: int = Field(50, ge=1, description="Pictures per chat.")
    max_message_chars: int = Field(100_000, ge=1, description="Characters per message.")
    max_chat_messages: int = Field(1000, ge=2, description="Messages per chat.")
    fetch_timeout_s: float = Field(15.0, gt=0, description="Seconds to fetch a picture from a web address.")
    allow_private_addresses: bool = Field(
        False, description="Fetch pictures from private and local addresses too. Never on a public site."
    )
    max_streams: int = Field(64, ge=1, description="Replies that stream at the same time.")
    queue_length: int = Field(256, ge=1, description="Messages that may wait for their turn.")
    idle_timeout_s: float = Field(
        300.0, gt=0, description="Seconds without a token after which a reply is given up."
    )

    @property
    def image_limits(self) -> ImageLimits:
        return ImageLimits(self.max_file_mb * MEGA, self.max_megapixels * MEGA, self.image_side)

    @property
    def fetch_limits(self) -> FetchLimits:
        return FetchLimits(self.max_file_mb * MEGA, self.fetch_timeout_s, self.allow_private_addresses)

    @field_validator("data_dir")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        return value.expanduser()

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            tuple(filter(None, (host.strip() for host in value.split(","))))
            if isinstance(value, str)
            else value
        )


def load_settings(flags: dict[str, Any], env_file: Path | None = None) -> Settings:
    """Fill the settings: ``flags`` win over the environment, the environment over ``env_file``.

    The env file is loaded into this process's environment, so that what it says for others
    (``HF_TOKEN``, ``VLLM_…``) reaches them too.

    Raises:
        ConfigError: the env file is missing, or a value does not fit; names the flag.
    """
    if env_file is not None:
        if not env_file.is_file():
            raise ConfigError(f"There is no env file “{env_file}”.", "Check the path given with --env-file.")
        load_dotenv(env_file, override=False)
    try:
        return Settings(**flags)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]).removeprefix(ENV_PREFIX).lower() if first["loc"] else ""
        raise ConfigError(
            f"The value of {flag(name)} does not fit: {first['msg'].lower()}.",
            f"Give another value with {flag(name)} or {ENV_PREFIX}{name.upper()}; --help lists them all.",
        ) from error


def flag(name: str) -> str:
    """How a field of the settings is spelt on the command line."""
    return "--" + name.replace("_", "-")
