"""What a family of models wants of vLLM: one TOML file each in ``families/``, and the schema of these.

A field that is absent was not found in any source; nothing is estimated in its place. Adding a family is
adding a file; ``docs/models.md`` names the fields.
"""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

FOLDER = Path(__file__).parent
FAMILIES = FOLDER / "families"
TEMPLATES = FOLDER / "templates"
BYTES_PER_PARAMETER = {"bfloat16": 2.0, "float16": 2.0, "float8": 1.0}

Version = Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
Flag = str | int | float | bool | dict[str, Any] | list[str]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Cache(_Frozen):
    """What one token takes in the KV cache: ``elements`` numbers in each of ``layers`` layers.

    Keys and values of ``kv_heads`` heads of ``head_dim`` numbers, or with multi-head latent attention the
    one vector of ``latent`` numbers that vLLM keeps of both.
    """

    layers: int = Field(gt=0)
    kv_heads: int | None = Field(None, gt=0)
    head_dim: int | None = Field(None, gt=0)
    latent: int | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        heads = (self.kv_heads, self.head_dim)
        if (self.latent is None) == (None in heads) and not (self.latent is None and None not in heads):
            raise ValueError("give kv_heads and head_dim, or latent")
        return self

    @property
    def elements(self) -> int:
        return self.latent or 2 * (self.kv_heads or 0) * (self.head_dim or 0)


class Model(_Frozen):
    """One checkpoint. ``parameters`` are all that are loaded; ``weights_bytes`` where their dtype varies."""

    id: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    parameters: int | None = Field(None, gt=0)
    weights_bytes: int | None = Field(None, gt=0)
    dtype: Literal["bfloat16", "float16", "float8"] = "bfloat16"
    context: int | None = Field(None, gt=0)
    cache: Cache | None = None
    licence: str | None = None
    gated: bool | None = None


class Limits(_Frozen):
    """How small the document that names the family keeps it; most were tried on one L4, which has 24 GB."""

    max_model_len: int | None = Field(None, gt=0)
    max_num_seqs: int | None = Field(None, gt=0)
    images: int | None = Field(None, gt=0)
    tensor_parallel_size: int = Field(1, gt=0)


class Messages(_Frozen):
    """How the family wants its messages, where that is known.

    ``image_place``: where its prompt has the pictures of a message, relative to the words. ``system_role``:
    whether its template writes a system message; one that leaves it out gets it before the first question.
    ``reasoning_parser``: vLLM's, which tells its thinking from its answer.
    """

    image_place: Literal["before", "after"] | None = None
    system_role: bool = True
    reasoning_parser: str | None = None


class Recipe(_Frozen):
    """A family. ``name`` is for people; ``key``, the file's name, for other files.

    ``template``: whose chat template is used. ``hub``: the one in the model's own files; ``mistral``: none,
    mistral-common writes the prompt; ``vllm``: vLLM brings one; ``own``: nobody has one, so it is here.
    ``prompt`` is upstream's prompt for one picture, with ``{question}`` in it, where upstream writes it out;
    ``placeholder`` is what stands for the picture. ``until`` is the last vLLM with this architecture, and
    ``by_transformers`` says that later ones run it by transformers' own modelling code.
    """

    key: str
    name: str
    format: Literal["mistral", "hf"] | None = None
    models: tuple[Model, ...] = Field(min_length=1)
    architectures: tuple[str, ...] = Field(min_length=1)
    since: Version | None = None
    until: Version | None = None
    by_transformers: bool = False
    modalities: tuple[Literal["image", "video", "audio"], ...] = ()
    several_images: bool = False
    needs_remote_code: bool = False
    is_base: bool = False
    auto: bool = False
    template: Literal["hub", "mistral", "vllm", "own"] = "hub"
    placeholder: str | None = None
    prompt: str | None = None
    note: str | None = None
    arguments: Mapping[str, Flag] = {}
    limits: Limits = Limits()
    sampling: Mapping[str, float | int] = {}
    request: Mapping[str, Any] = {}
    messages: Messages = Messages()
    sources: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if "trust_remote_code" in self.arguments:
            raise ValueError("trust_remote_code is for the person to give: set needs_remote_code")
        if self.auto and (self.needs_remote_code or self.is_base):
            raise ValueError("a model with code of its own, or a base model, is not chosen by itself")
        if self.placeholder is not None and "image" not in self.modalities:
            raise ValueError("a placeholder of pictures, and no pictures")
        if (self.template == "own") != self.template_file.is_file():
            raise ValueError(f"template is {self.template!r}, and {self.template_file.name} says otherwise")
        return self

    @property
    def template_file(self) -> Path:
        """Where the chat template lies that this family has none of elsewhere."""
        return TEMPLATES / f"{self.key}.jinja"


def read_recipe(file: Path) -> Recipe:
    """Read one family.

    Raises:
        ValueError: it does not fit the schema; names the file.
    """
    try:
        fields = tomllib.loads(file.read_text(encoding="utf-8"))
        # In TOML everything is a list; the values here are frozen.
        return Recipe.model_validate({"key": file.stem, **fields}, strict=False)
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise ValueError(f"{file.name}: {error}") from error


def read_catalogue(folder: Path = FAMILIES) -> tuple[Recipe, ...]:
    """All families, by name.

    Raises:
        ValueError: a file does not fit the schema, or two name the same model.
    """
    recipes = sorted((read_recipe(file) for file in folder.glob("*.toml")), key=lambda one: one.name.lower())
    rows = [(model.id, recipe.format) for recipe in recipes for model in recipe.models]
    if twice := {name for name, form in rows if rows.count((name, form)) > 1}:
        raise ValueError(f"in two families: {', '.join(sorted(twice))}")
    return tuple(recipes)


def find(name: str, recipes: Sequence[Recipe]) -> tuple[Recipe, Model] | None:
    """The family and the model that a person means by ``owner/name``, or by a family's key.

    Whatever the case; ``None`` for all others. Of a model in two formats it is Mistral's own, which the
    documents prefer; the key of the other family names the other.
    """
    wanted = name.lower()
    keyed = [(recipe, recipe.models[0]) for recipe in recipes if recipe.key == wanted]
    named = [(r, m) for r in recipes for m in r.models if m.id.lower() == wanted]
    return next(iter((*keyed, *sorted(named, key=lambda one: one[0].format == "hf"))), None)


def nearest(name: str, recipes: Sequence[Recipe]) -> str:
    """What a person may have meant by a name that the catalogue does not have, as a sentence."""
    ids = {spelt.lower(): model.id for r in recipes for model in r.models for spelt in _spellings(model)}
    near = difflib.get_close_matches(name.lower(), ids, n=1, cutoff=0.6)
    return f"Did you mean {ids[near[0]]}?" if near else "“sightline models” lists them all."


def _spellings(model: Model) -> tuple[str, str]:
    return model.id, model.id.partition("/")[2]
