"""The command lines of vLLM's documentation, as vLLM's own parser gets them."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from backend import vllm_args
from backend.errors import ConfigError
from backend.vllm_args import (
    DEMO_KV_CACHE_BYTES,
    DEMO_MODEL,
    DEMO_NAME,
    GIB,
    cpu_defaults,
    is_mentioned,
    plan_engine,
    translate_limits,
)

DASHES = "--tokenizer-mode mistral --config-format mistral --load-format mistral"
UNDERSCORES = DASHES.replace("r-m", "r_m").replace("g-f", "g_f").replace("d-f", "d_f")


@pytest.mark.parametrize(
    ("line", "model"),
    [
        (
            f"mistralai/Mistral-Small-3.1-24B-Instruct-2503 {DASHES} "
            '--limit-mm-per-prompt {"image":10} --max-model-len 16384',
            "mistralai/Mistral-Small-3.1-24B-Instruct-2503",
        ),
        (f"mistralai/Mistral-Nemo-Instruct-2407 {UNDERSCORES}", "mistralai/Mistral-Nemo-Instruct-2407"),
        (f"mistralai/Pixtral-12B-2409 {UNDERSCORES}", "mistralai/Pixtral-12B-2409"),
        ("mistralai/Pixtral-12B-2409 --max_model_len 16384", "mistralai/Pixtral-12B-2409"),
        ("Qwen/Qwen2.5-VL-3B-Instruct --max-num-seqs=5 -tp 2 -O3", "Qwen/Qwen2.5-VL-3B-Instruct"),
    ],
)
def test_lines_written_for_vllm_serve_pass_unchanged(line: str, model: str) -> None:
    flags = line.split()

    plan = plan_engine(None, flags)

    assert plan.argv == ("--model", model, *flags[1:])
    assert (plan.model, plan.is_demo, plan.notices) == (model, False, ())


def test_the_docker_line_names_its_model_by_flag() -> None:
    plan = plan_engine("mistralai/Pixtral-12B-2409", UNDERSCORES.split())

    assert plan.argv == ("--model", "mistralai/Pixtral-12B-2409", *UNDERSCORES.split())


@pytest.mark.parametrize(
    ("flags", "translated", "old"),
    [
        (
            ("--limit-mm-per-prompt", "image=4"),
            ("--limit-mm-per-prompt", '{"image": 4}'),
            "image=4",
        ),
        (
            ("--limit_mm_per_prompt", "'image=4'"),
            ("--limit_mm_per_prompt", '{"image": 4}'),
            "'image=4'",
        ),
        (
            ("--limit_mm_per_prompt=image=4,video=1", "--seed", "1"),
            ('--limit_mm_per_prompt={"image": 4, "video": 1}', "--seed", "1"),
            "image=4,video=1",
        ),
        (("--limit-mm-per-prompt=image=4",), ('--limit-mm-per-prompt={"image": 4}',), "image=4"),
    ],
)
def test_limits_in_the_old_spelling_are_translated_and_it_says_so(
    flags: tuple[str, ...], translated: tuple[str, ...], old: str
) -> None:
    result, notices = translate_limits(flags)

    assert result == translated
    assert len(notices) == 1
    assert old in notices[0]
    assert json.dumps(json.loads(translated[0].partition("=")[2] or translated[1])) in notices[0]


@pytest.mark.parametrize(
    "flags",
    [
        ("--limit-mm-per-prompt", '{"image": 4}'),
        ('--limit-mm-per-prompt={"image": 4}',),
        ("--limit-mm-per-prompt", ""),
        ("--limit-mm-per-prompt", "image=many"),
        ("--limit-mm-per-prompt", "image=²"),
        ("--limit-mm-per-prompt", "image"),
        ("--limit-mm-per-prompt.image", "4"),
        ("--limit-mm-per-prompt",),
        ("--chat-template", "image=4"),
        ("--chat-template=image=4",),
        (),
    ],
)
def test_whatever_is_no_old_limit_stays(flags: tuple[str, ...]) -> None:
    assert translate_limits(flags) == (flags, ())


def test_a_plan_carries_the_translated_limits_and_the_notice() -> None:
    plan = plan_engine(None, ["owner/model", "--limit-mm-per-prompt", "image=4"])

    assert plan.argv == ("--model", "owner/model", "--limit-mm-per-prompt", '{"image": 4}')
    assert len(plan.notices) == 1


@pytest.mark.parametrize(
    ("flags", "variable"),
    [
        (("--api-key", "sk-hidden"), "VLLM_API_KEY"),
        (("--api-key=sk-hidden",), "VLLM_API_KEY"),
        (("--api_key", "sk-hidden"), "VLLM_API_KEY"),
        (("--api_key=sk-hidden",), "VLLM_API_KEY"),
        (("--api-k", "sk-hidden"), "VLLM_API_KEY"),
        (("--hf-token", "sk-hidden"), "HF_TOKEN"),
        (("--hf_token=sk-hidden",), "HF_TOKEN"),
        (("--hf-tok", "sk-hidden"), "HF_TOKEN"),
        (("--hf_tok=sk-hidden",), "HF_TOKEN"),
        (("owner/model", "--seed", "1", "--api-key", "sk-hidden"), "VLLM_API_KEY"),
    ],
)
def test_secrets_are_refused_in_every_spelling_without_showing_them(
    flags: tuple[str, ...], variable: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_engine(None, flags)

    assert f"environment variable {variable}" in caught.value.action
    assert "sk-hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "flags",
    [
        ("--hf-overrides", '{"architectures": ["--api-key"]}'),
        ("--hf-config-path", "x"),
        ("--chat-template", "api-key"),
        ("--api-key-file", "x"),
    ],
)
def test_flags_that_only_resemble_secrets_pass(flags: tuple[str, ...]) -> None:
    assert plan_engine("owner/model", flags).argv == ("--model", "owner/model", *flags)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--ssl-keyfile", "key.pem"), "--ssl-keyfile"),
        (("--ssl_certfile=cert.pem",), "--ssl-certfile"),
        (("--ssl-key", "key.pem"), "--ssl-keyfile"),
        (("--ssl-ca-certs", "ca.pem"), "--ssl-ca-certs"),
        (("--uds", "/run/vllm.sock"), "--uds"),
        (("--root-path=/chat",), "--root-path"),
        (("--middleware", "my.auth"), "--middleware"),
        (("--allowed-origins", '["https://a.example"]'), "--allowed-origins"),
        (("--headless",), "--headless"),
        (("--api-server-count", "2"), "--api-server-count"),
        (("-asc", "2"), "-asc"),
        (("--grpc",), "--grpc"),
    ],
)
def test_flags_of_vllms_server_are_refused_as_it_is_not_started(flags: tuple[str, ...], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_engine("owner/model", flags)

    assert caught.value.what == f"Sightline serves the page itself, so {named} has no effect here."


@pytest.mark.parametrize(
    "flags",
    [
        ("--allowed-local-media-path", "/pictures"),
        ("--allowed-media-domains", "a.example"),
        ("--data-parallel-size", "2"),
        ("--chat-template", "uds"),
        ("--uvicorn-log-level", "debug"),
    ],
)
def test_flags_that_only_resemble_the_servers_pass(flags: tuple[str, ...]) -> None:
    assert plan_engine("owner/model", flags).argv == ("--model", "owner/model", *flags)


def test_a_model_of_the_environment_gives_way_to_one_that_is_named() -> None:
    assert plan_engine(None, [], default="owner/usual").model == "owner/usual"
    assert plan_engine("owner/flag", [], default="owner/usual").model == "owner/flag"
    assert plan_engine(None, ["owner/first", "--seed", "1"], default="owner/usual").model == "owner/first"


@pytest.mark.parametrize("flags", [("--config", "vllm.yaml"), ("--config=vllm.yaml",)])
def test_a_config_file_wants_a_model_beside_it(flags: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="Name the model"):
        plan_engine(None, flags)

    assert plan_engine("owner/model", flags).argv == ("--model", "owner/model", *flags)
    assert plan_engine(None, flags, default="owner/model").model == "owner/model"


def test_two_models_are_one_too_many() -> None:
    with pytest.raises(ConfigError, match="“owner/one” and “owner/two”"):
        plan_engine("owner/two", ["owner/one"])


def test_the_same_model_named_twice_is_one() -> None:
    assert plan_engine("owner/one", ["owner/one"]).argv == ("--model", "owner/one")


@pytest.mark.parametrize(
    "model", ["./absent", "../absent", "/absent/folder", "~/absent", "~nobody-here/x", "a/b/c"]
)
def test_a_folder_that_is_not_there_is_named(model: str) -> None:
    with pytest.raises(ConfigError, match=f"There is no model folder “{model}”"):
        plan_engine(model, [])


@pytest.mark.parametrize("model", ["owner/model", "gpt2"])
def test_a_hub_id_need_not_be_a_folder(model: str) -> None:
    plan = plan_engine(model, [])

    assert plan.argv == ("--model", model)
    assert not plan.is_local


def test_a_folder_that_is_there_is_local(tmp_path: Path) -> None:
    assert plan_engine(str(tmp_path), []).is_local
    assert plan_engine(None, [str(tmp_path)]).argv == ("--model", str(tmp_path))


def test_a_folder_in_the_home_directory_reaches_vllm_by_its_full_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()

    plan = plan_engine("~/model", [])

    assert plan.is_local
    assert plan.argv == ("--model", str(tmp_path / "model"))


def test_without_a_model_the_demo_is_started() -> None:
    plan = plan_engine(None, [])

    assert (plan.model, plan.is_demo, plan.is_local) == (DEMO_NAME, True, True)
    assert plan.argv == (
        *("--model", str(DEMO_MODEL), *DASHES.split()),
        *("--served-model-name", DEMO_NAME),
        *("--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}'),
        *("--override-generation-config", '{"temperature": 0.3}'),
    )
    named = [plan_engine(DEMO_NAME, []), plan_engine(None, [DEMO_NAME]), plan_engine(None, [], DEMO_NAME)]
    assert [(plan.argv, plan.reason) for plan in named] == [(plan.argv, "you named it")] * 3


@pytest.mark.parametrize("given", [("--tokenizer-mode", "auto"), ("--tokenizer_mode=auto",)])
def test_a_given_flag_replaces_the_demos_own(given: tuple[str, ...]) -> None:
    argv = plan_engine(None, [*given, "--seed", "1"]).argv

    assert argv[-len(given) - 2 :] == (*given, "--seed", "1")
    assert "--tokenizer-mode" not in argv[: -len(given) - 2]
    assert argv[2:4] == ("--config-format", "mistral")


@pytest.mark.parametrize(
    ("available", "size"),
    [(1 * GIB, GIB), (16 * GIB, 4 * GIB), (400 * GIB, 8 * GIB)],
)
def test_on_the_cpu_the_kv_cache_has_a_size_and_nothing_is_compiled(available: int, size: int) -> None:
    plan = plan_engine("owner/model", [])

    assert cpu_defaults(plan, {}, available) == ("--kv-cache-memory-bytes", str(size), "--enforce-eager")


def test_the_demo_needs_little_memory() -> None:
    size = cpu_defaults(plan_engine(None, []), {}, 400 * GIB)[1]

    assert size == str(DEMO_KV_CACHE_BYTES)


@pytest.mark.parametrize(
    ("flags", "environment", "added"),
    [
        (("--kv-cache-memory-bytes", "1G"), {}, {"--enforce-eager"}),
        (("--kv_cache_memory_bytes=1G",), {}, {"--enforce-eager"}),
        ((), {"VLLM_CPU_KVCACHE_SPACE": "4"}, {"--enforce-eager"}),
        (("--enforce-eager",), {}, {"--kv-cache-memory-bytes"}),
        (("--enforce_eager",), {}, {"--kv-cache-memory-bytes"}),
        (("--no-enforce-eager",), {}, {"--kv-cache-memory-bytes"}),
        (("--compilation-config", "{}"), {}, {"--kv-cache-memory-bytes"}),
        (("--compilation-config.mode", "3"), {}, {"--kv-cache-memory-bytes"}),
        (("-O", "3"), {}, {"--kv-cache-memory-bytes"}),
        (("--optimization-level", "3"), {}, {"--kv-cache-memory-bytes"}),
        (("-O3",), {}, {"--kv-cache-memory-bytes"}),
        (("-cc.mode=3",), {}, {"--kv-cache-memory-bytes"}),
    ],
)
def test_what_the_person_chose_for_the_cpu_is_left_to_them(
    flags: tuple[str, ...], environment: dict[str, str], added: set[str]
) -> None:
    defaults = cpu_defaults(plan_engine("owner/model", flags), environment, 16 * GIB)

    assert {item for item in defaults if item.startswith("-")} == added


@pytest.mark.parametrize(
    ("flag", "known"),
    [
        ("--max-model-len", True),
        ("--max-model", True),  # a beginning
        ("--no-enable-thing", True),
        ("--log-level", True),  # a field's
        ("--compilation-config.mode", True),
        ("--prot", False),  # in the midst of another word
        ("--max-file-bm", False),
    ],
)
def test_what_vllms_sources_mention_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str, known: bool
) -> None:
    sources = {
        "engine/arg_utils.py": """add("--max-model-len")\nadd("--enable-thing", '--compilation-config')""",
        "entrypoints/deep/cli_args.py": "class Front:\n    log_level: str = 'protocol --protected'\n",
    }
    for name, text in sources.items():
        (tmp_path / "vllm" / name).parent.mkdir(parents=True)
        (tmp_path / "vllm" / name).write_text(text)
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path / "vllm")])
    monkeypatch.setattr(vllm_args, "find_spec", lambda name: found)
    assert is_mentioned(flag) == known


def test_without_vllm_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_args, "find_spec", lambda name: None)
    assert not is_mentioned("--max-model-len")
