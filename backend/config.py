"""Settings: one typed object filled by flags, the environment and an env file, in this order of weight."""

import os
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import load_dotenv
from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from backend.errors import ConfigError
from backend.types import (
    DecoderLimits,
    FetchLimits,
    ImageLimits,
    ImportLimits,
    StoreLimits,
    StreamLimits,
)

ENV_PREFIX = "SIGHTLINE_"
MEGA = 1_000_000
LOOPBACK = ("127.0.0.1", "::1")
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")  # RFC 1918


def _default_data_dir() -> Path:
    """The XDG base directory for a person's own data (freedesktop.org, XDG Base Directory 0.8)."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "sightline"


def _default_workers() -> int:
    """As many as there are cores for this process, few enough to leave memory to the model."""
    return min(4, os.cpu_count() or 1)


def _split(value: object) -> object:
    """Words from the environment, comma-separated, or from a repeated flag."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        return value
    return tuple(word.strip() for item in items for word in str(item).split(",") if word.strip())


def _default_trusted_proxies() -> tuple[str, ...]:
    """Those on this machine; into the container of a Space comes only its proxy, from a private address."""
    return LOOPBACK + PRIVATE if "SPACE_ID" in os.environ else LOOPBACK


def _networks(value: tuple[str, ...]) -> tuple[str, ...]:
    """Raise ValueError where one is no address or network, or everybody's, which would let anybody lie.

    So ``*`` is refused, and ``0.0.0.0/0`` and ``::/0``, which say the same.
    """
    for word in value:
        if not ip_network(word).prefixlen:
            raise ValueError(f"{word} is every address")
    return value


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """Everything that can be set. The description of a field is its text in ``--help``."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", validate_by_name=True
    )

    model: str | None = Field(
        None,
        description="Model to load: a Hugging Face id or a folder; auto: the best that fits this machine. "
        "[default: demo, or none with --base-url]",
    )
    base_url: Words = Field(
        (),
        description="OpenAI-compatible server whose models to offer: [NAME=]https://host/v1; repeatable. "
        "OPENAI_BASE_URL names one too.",
    )
    api_key_file: Words = Field(
        (),
        description="File with a server's key: [NAME=]PATH; repeatable. Otherwise OPENAI_API_KEY.",
    )
    default_model: str | None = Field(
        None, description="Model of the menu that new chats start with. [default: the first]"
    )
    model_info: Words = Field(
        (),
        description='What a server does not tell of its models: "MODEL context_length=N image_limit=N '
        'reasoning=yes video=no box_dialect=NAME price_in=N price_out=N" (for a million tokens); MODEL may '
        "hold *; repeatable.",
    )
    host: str = Field(
        "127.0.0.1",
        description="Address to listen on; 0.0.0.0 opens the app to the network.",
        validation_alias=AliasChoices("SIGHTLINE_HOST", "GRADIO_SERVER_NAME"),
    )
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
    database_url: str | None = Field(
        None,
        description="Database for chats in the place of a file in that folder: "
        "postgresql+psycopg://user:password@host/name. SIGHTLINE_DATABASE_URL keeps the password out of the "
        "list of processes.",
    )
    history: Literal["on", "off"] | None = Field(
        None,
        description="off: chats are in memory, and gone when the app ends or their visitor has been away. "
        "[default: on; in a Hugging Face Space off, unless there is a --database-url]",
    )
    history_idle_minutes: float = Field(
        60.0, gt=0, description="With --history off: minutes without a message after which one's chats go."
    )
    keep_days: float | None = Field(
        None, gt=0, description="Days without a message after which a chat goes. [default: none goes]"
    )
    max_visitor_mb: int = Field(
        2000, ge=1, description="Megabytes that the chats of one visitor may take, pictures included."
    )
    max_history_mb: int = Field(
        20_000, ge=1, description="Megabytes that all chats together may take, pictures included."
    )
    allowed_hosts: Words = Field(
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
    max_pdf_pages: int = Field(10, ge=1, description="Pages of a PDF that are used, each as a picture.")
    max_images_per_message: int = Field(10, ge=1, description="Pictures per message.")
    max_message_mb: int = Field(100, ge=1, description="Megabytes of all files of a message together.")
    max_images_per_chat: int = Field(50, ge=1, description="Pictures per chat.")
    max_message_chars: int = Field(100_000, ge=1, description="Characters per message.")
    max_caption_pictures: int = Field(
        200, ge=1, description="Pictures per captioning job of a visitor; operators may have any number."
    )
    caption_folders: Words = Field(
        (), description="Folders of this machine whose pictures operators may caption, comma-separated."
    )
    max_import_mb: int = Field(50, ge=1, description="Megabytes per file that is imported as a chat.")
    max_chat_messages: int = Field(1000, ge=2, description="Messages per chat.")
    decode_workers: int = Field(
        default_factory=_default_workers,
        ge=1,
        description="Processes that decode pictures. [default: one for each core, 4 at most]",
    )
    decode_timeout_s: float = Field(20.0, gt=0, description="Seconds to decode a picture or document.")
    decode_memory_mb: int = Field(
        2048, ge=128, description="Megabytes of memory that one process which decodes may take."
    )
    decode_in_flight_mb: int = Field(
        200, ge=1, description="Megabytes of files that are decoded at the same time; more wait."
    )
    fetch_timeout_s: float = Field(15.0, gt=0, description="Seconds to fetch a picture from a web address.")
    max_fetches: int = Field(16, ge=1, description="Pictures that are fetched at the same time.")
    max_fetches_per_host: int = Field(
        4, ge=1, description="Of these, pictures from one site, or from one IP address."
    )
    allow_private_addresses: bool = Field(
        False,
        description="Fetch from private and local addresses and any port too. Never on a public site.",
    )
    max_streams: int = Field(64, ge=1, description="Replies that stream at the same time.")
    queue_length: int = Field(256, ge=1, description="Messages that may wait for their turn.")
    max_streams_per_visitor: int = Field(
        4, ge=1, description="Replies that one visitor may have under way, those in line included."
    )
    max_streams_per_address: int = Field(
        16,
        ge=1,
        description="Replies that one address may have under way; of IPv6 the first 64 bits are one address.",
    )
    messages_per_minute: int = Field(30, ge=1, description="Messages that one visitor may send in a minute.")
    messages_per_minute_per_address: int = Field(
        120, ge=1, description="Messages that may come from one address in a minute."
    )
    pictures_per_minute_per_address: int = Field(
        300, ge=1, description="Pictures that may come from one address in a minute, uploaded or fetched."
    )
    trusted_proxies: Annotated[Words, AfterValidator(_networks)] = Field(
        default_factory=_default_trusted_proxies,
        description="Addresses or networks of the proxies whose X-Forwarded-For and X-Forwarded-Proto count, "
        "comma-separated. [default: 127.0.0.1,::1; in a Hugging Face Space private networks too]",
    )
    auth: Path | None = Field(
        None,
        description="File of name:password lines. People then have to log in, and every account is an "
        "operator.",
    )
    grace_s: float = Field(
        5.0,
        ge=0,
        description="Seconds for which a reply goes on after the last page that showed it was left.",
    )
    idle_timeout_s: float = Field(
        300.0, gt=0, description="Seconds without a token after which a reply is given up."
    )

    api: bool = Field(
        False,
        description="Offer OpenAI's API of the model in this process at /v1, with the key of "
        "SIGHTLINE_API_KEY; without that key it does not start.",
    )
    api_max_tokens: int = Field(8192, ge=1, description="Tokens that an answer of --api may have.")
    api_max_choices: int = Field(4, ge=1, description="Answers that one request of --api may ask for (n).")

    @property
    def keeps_history(self) -> bool:
        """Whether chats outlive the app."""
        is_kept = "SPACE_ID" not in os.environ or self.database_url is not None
        return is_kept if self.history is None else self.history == "on"

    @property
    def temporary_dir(self) -> Path:
        """Where things are that go when the app ends: under a name that nobody else gives a folder."""
        return self.data_dir / ".sightline-temporary"

    @property
    def chats_dir(self) -> Path:
        """Where chats and their pictures are, and files that wait to be sent."""
        return self.data_dir if self.keeps_history else self.temporary_dir

    @property
    def store_limits(self) -> StoreLimits:
        return StoreLimits(self.max_visitor_mb * MEGA, self.max_history_mb * MEGA)

    @property
    def image_limits(self) -> ImageLimits:
        return ImageLimits(
            self.max_file_mb * MEGA, self.max_megapixels * MEGA, self.image_side, self.max_pdf_pages
        )

    @property
    def decoder_limits(self) -> DecoderLimits:
        return DecoderLimits(
            self.decode_workers,
            self.decode_timeout_s,
            self.decode_memory_mb * MEGA,
            self.decode_in_flight_mb * MEGA,
        )

    @property
    def import_limits(self) -> ImportLimits:
        return ImportLimits(
            self.max_import_mb * MEGA,
            self.max_chat_messages,
            self.max_images_per_chat,
            self.max_images_per_message,
        )

    @property
    def fetch_limits(self) -> FetchLimits:
        return FetchLimits(
            max_bytes=self.max_file_mb * MEGA,
            timeout_s=self.fetch_timeout_s,
            allow_private=self.allow_private_addresses,
            fetches=self.max_fetches,
            fetches_per_host=self.max_fetches_per_host,
        )

    @property
    def stream_limits(self) -> StreamLimits:
        return StreamLimits(
            streams=self.max_streams,
            streams_per_visitor=self.max_streams_per_visitor,
            streams_per_address=self.max_streams_per_address,
            line=self.queue_length,
            messages_per_minute=self.messages_per_minute,
            messages_per_minute_per_address=self.messages_per_minute_per_address,
            pictures_per_minute_per_address=self.pictures_per_minute_per_address,
        )

    @field_validator("data_dir", "auth")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return value and value.expanduser()


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
