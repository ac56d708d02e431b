"""What is started, and why."""

from pathlib import Path

import pytest

from backend.config import Settings
from backend.errors import ConfigError
from backend.start import StartPlan, plan_start

LAB = "lab=https://lab.example/v1"


def plan(
    settings: Settings,
    model: str | None = None,
    *flags: str,
    has_vllm: bool = True,
    one_only: bool = False,
    **env: str,
) -> StartPlan:
    return plan_start(settings, model, flags, env, has_vllm=has_vllm, one_only=one_only)


@pytest.fixture
def with_server(settings: Settings) -> Settings:
    return settings.model_copy(update={"base_url": (LAB,)})


def told(start: StartPlan) -> tuple[str | None, list[str]]:
    return start.engine and start.engine.model, [server.name for server in start.servers]


def test_with_nothing_named_it_is_the_demo(settings: Settings) -> None:
    start = plan(settings)

    assert told(start) == ("sightline-demo", [])
    assert "no other was named" in start.lines[0]


def test_with_only_a_server_named_nothing_is_loaded(settings: Settings, with_server: Settings) -> None:
    for start in (
        plan(with_server, has_vllm=False),
        plan(settings.model_copy(update={"base_url": ("lab=http://a/v1",)})),
    ):
        assert told(start) == (None, ["lab"])
        assert "lab" in start.lines[0]
        assert "No model is loaded here" in start.lines[1]


def test_the_environments_server_counts_too(settings: Settings) -> None:
    assert told(plan(settings, OPENAI_BASE_URL="https://lab.example/v1")) == (None, ["lab.example"])


@pytest.mark.parametrize("flags", [("owner/model", "--max-model-len", "9"), ("owner/model",)])
def test_a_model_and_a_server_are_offered_together(with_server: Settings, flags: tuple[str, ...]) -> None:
    start = plan(with_server, None, *flags)

    assert told(start) == ("owner/model", ["lab"])
    assert start.engine is not None
    assert start.engine.argv == ("--model", *flags)
    assert told(plan(with_server, "owner/model")) == ("owner/model", ["lab"])
    assert told(plan(with_server.model_copy(update={"model": "owner/model"}))) == ("owner/model", ["lab"])


def test_a_single_question_goes_to_the_server(with_server: Settings) -> None:
    assert told(plan(with_server, "gpt-x", one_only=True, has_vllm=False)) == (None, ["lab"])


def test_a_question_goes_to_the_server_that_was_named_for_it(with_server: Settings) -> None:
    elsewhere = {"OPENAI_BASE_URL": "https://elsewhere.example/v1"}

    assert told(plan(with_server, one_only=True, **elsewhere)) == (None, ["lab"])
    assert told(plan(with_server, **elsewhere)) == (None, ["lab", "elsewhere.example"])


def test_flags_for_vllm_need_a_model_that_it_loads(with_server: Settings) -> None:
    with pytest.raises(ConfigError, match=r"^--max-model-len is no flag of Sightline's own"):
        plan(with_server, None, "--max-model-len=9")


def test_a_flag_that_is_misspelt_is_not_taken_for_one_of_vllm(with_server: Settings) -> None:
    own = ("--port", "--system-prompt", "--max-file-mb")
    for flag, near in (("--prot=8000", "--port"), ("--system-promt", "--system-prompt")):
        with pytest.raises(ConfigError) as caught:
            plan_start(with_server, None, (flag, "8000"), {}, has_vllm=False, own_flags=own)

        assert str(caught.value) == f"There is no flag {flag.partition('=')[0]}. Did you mean {near}?"
    with pytest.raises(ConfigError, match="no flag of Sightline's own"):
        plan_start(with_server, None, ("--max-model-len", "9"), {}, has_vllm=False, own_flags=own)


def test_a_flag_that_is_misspelt_is_refused_before_a_model_loads(settings: Settings) -> None:
    own = ("--port", "--max-file-mb", "--max-streams")

    def start(flag: str) -> StartPlan:
        known = {"--max-stream-len"}.__contains__
        return plan_start(settings, None, (flag,), {}, has_vllm=True, own_flags=own, knows=known)

    for flag in ("--prot=8000", "--max_file_bm=3"):
        with pytest.raises(ConfigError, match=r"There is no flag .* Did you mean"):
            start(flag)
    for flag in ("--max-stream-len=3", "--max-model-len=9"):  # like one of ours, and not alike
        engine = start(flag).engine
        assert engine is not None
        assert flag in engine.argv


def test_without_vllm_and_without_a_server_there_is_nothing_to_start(
    settings: Settings, tmp_path: Path
) -> None:
    for model in (None, "owner/model"):
        with pytest.raises(ConfigError, match="No vLLM is installed here") as caught:
            plan(settings, model, has_vllm=False)

        assert "OPENAI_BASE_URL" in caught.value.action


def test_what_is_known_of_a_model_is_read(settings: Settings) -> None:
    start = plan(settings.model_copy(update={"model_info": ("llava* image_limit=1",)}))

    assert start.corrections[0].known == (("image_limit", 1),)
