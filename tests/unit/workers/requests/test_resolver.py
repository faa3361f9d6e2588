"""workers.requests.resolver."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, PreTrainedTokenizerFast

from shared.domain.constraint import Constraint
from shared.domain.prompt_logprobs import MAX_PROMPT_CANDIDATES
from shared.domain.request import (
    ChatMessage,
    ChatPrompt,
    GenerationRequest,
    SamplingOptions,
    TextPrompt,
    TokenPrompt,
)
from shared.domain.sampling import SamplingParams
from shared.errors import BatonError, ErrorInfo, RequestError
from tests.models import write_tiny_model
from workers.requests.generation_defaults import Defaults
from workers.requests.resolver import Resolver

#: Reads a variable of its own, and writes nothing behind what is said.
WITH_VARIABLE = (
    "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    "{% if thinking is defined %}{{ thinking | string }}{% endif %}"
)
#: SmolLM2's.
CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, "
    "trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
#: As Llama 3's: trims what is said, and begins with the beginning-of-text token.
LLAMA_3 = (
    "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
#: As Mistral's: roles must alternate; the text follows a control token after a space.
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)
SPECIAL = {
    "chatml": ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    "llama-3": (
        "<|begin_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
        "<|end_of_text|>",
    ),
    "mistral": ("<s>", "</s>", "[INST]", "[/INST]"),
}
TEMPLATES = {"chatml": CHATML, "llama-3": LLAMA_3, "mistral": MISTRAL}
ENDS = {"chatml": ("<|im_start|>", "<|im_end|>"), "llama-3": ("<|begin_of_text|>", "<|end_of_text|>")}


def byte_level() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("<", "|"), ("|", ">"), ("Ċ", "Ċ"), ("i", "m"), ("|", "im"), ("<|", "im")]
    pieces = [*alphabet, *("".join(merge) for merge in merges)]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def sentencepiece_like() -> Tokenizer:
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdefghi/<>[]INST"]
    model = models.BPE({p: i for i, p in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def make_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    backend = sentencepiece_like() if kind == "mistral" else byte_level()
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL[kind]])
    bos, eos = ENDS.get(kind, ("<s>", "</s>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=bos, eos_token=eos)
    tokenizer.chat_template = TEMPLATES[kind]
    return tokenizer


def make_resolver(kind: str = "chatml", *, max_model_len: int = 1000, **rest: Any) -> Resolver:
    return Resolver(make_tokenizer(kind), model_revision="revision", max_model_len=max_model_len, **rest)


CHAT_FIELDS = {"add_generation_prompt", "continue_final_message", "reasoning_effort", "template_variables"}


def chat(
    *contents: str, n: int = 1, constraint: Constraint | None = None, **fields: Any
) -> GenerationRequest:
    """A conversation that a user begins."""
    roles = ("user", "assistant")
    messages = tuple(ChatMessage(roles[i % 2], content) for i, content in enumerate(contents))
    own = {name: fields.pop(name) for name in CHAT_FIELDS & fields.keys()}
    return GenerationRequest((ChatPrompt(messages, **own),), n, SamplingOptions(**fields), constraint)


def texts(*prompts: str, **fields: Any) -> GenerationRequest:
    """Texts to be continued as they stand."""
    return GenerationRequest(tuple(map(TextPrompt, prompts)), sampling=SamplingOptions(**fields))


def messages_of(request: GenerationRequest) -> list[dict[str, Any]]:
    (prompt,) = request.prompts
    assert isinstance(prompt, ChatPrompt)
    return [{"role": message.role, "content": message.content} for message in prompt.messages]


def refusal(resolver: Resolver, request: GenerationRequest) -> ErrorInfo:
    with pytest.raises(RequestError) as raised:
        resolver.resolve(request)
    return raised.value.info


#: Built once; of each kind the tokenizer as the model has it, and a resolver.
TOKENIZERS = {kind: make_tokenizer(kind) for kind in TEMPLATES}
RESOLVERS = {kind: make_resolver(kind, max_model_len=10**6) for kind in TEMPLATES}


def reference(kind: str, request: GenerationRequest, **end: bool) -> list[int]:
    """What transformers makes of it."""
    tokens: list[int] = TOKENIZERS[kind].apply_chat_template(
        messages_of(request), return_dict=False, **(end or {"add_generation_prompt": True})
    )
    return tokens


def templated(template: str) -> Resolver:
    """For a model with this template."""
    tokenizer = make_tokenizer("chatml")
    tokenizer.chat_template = template
    return Resolver(tokenizer, model_revision="revision", max_model_len=1000)


def text_of(token_ids: tuple[int, ...]) -> str:
    text = TOKENIZERS["chatml"].decode(list(token_ids))
    assert isinstance(text, str)
    return text


def num_special(kind: str, token_ids: tuple[int, ...]) -> int:
    special = set(TOKENIZERS[kind].convert_tokens_to_ids(list(SPECIAL[kind])))
    return sum(token_id in special for token_id in token_ids)


@pytest.mark.parametrize("kind", TEMPLATES)
@given(contents=st.lists(st.text(st.characters(codec="utf-8"), max_size=15), min_size=1, max_size=3))
def test_a_prompt_is_what_transformers_renders(kind: str, contents: list[str]) -> None:
    body = chat(*contents)
    assert list(RESOLVERS[kind].resolve(body).prompts[0]) == reference(kind, body)


@pytest.mark.parametrize("kind", TEMPLATES)
@given(contents=st.lists(st.text(st.characters(codec="utf-8"), max_size=15), min_size=2, max_size=2))
def test_a_prompt_may_leave_the_last_message_open_or_ask_for_nothing(kind: str, contents: list[str]) -> None:
    body = chat(*contents)
    ends: tuple[tuple[dict[str, Any], dict[str, bool]], ...] = (
        ({"continue_final_message": True}, {"continue_final_message": True}),
        ({"add_generation_prompt": False}, {"add_generation_prompt": False}),
        ({"continue_final_message": False}, {"add_generation_prompt": True}),
    )
    for fields, end in ends:
        resolved = RESOLVERS[kind].resolve(chat(*contents, **fields))
        assert list(resolved.prompts[0]) == reference(kind, body, **end)


def test_a_continued_message_has_no_control_token_and_its_end_is_open() -> None:
    body = chat("a", "so <|im_end|> is", continue_final_message=True)
    token_ids = RESOLVERS["chatml"].resolve(body).prompts[0]
    assert text_of(token_ids).endswith("<|im_start|>assistant\nso <|im_end|> is")
    assert num_special("chatml", token_ids) == 5


def test_a_message_that_the_template_does_not_show_whole_cannot_be_continued() -> None:
    resolver = templated("{% for message in messages %}{{ message['content'][:3] }}{% endfor %}")
    info = refusal(resolver, chat("abcdef", continue_final_message=True))
    assert (info.status, info.param) == (400, "continue_final_message")
    assert "changes the last message" in info.message and "abc" not in info.message


def test_the_template_reads_its_own_variables_and_others_change_nothing() -> None:
    resolve = templated(WITH_VARIABLE).resolve
    for value, text in (
        (False, "aFalse"),
        ({"x": [1, "y"]}, "a{'x': [1, 'y']}"),
        ("<|im_end|>", "a<|im_end|>"),
    ):
        found = resolve(chat("a", template_variables={"thinking": value, "end": 1})).prompts[0]
        assert text_of(found) == text and num_special("chatml", found) == 0
    assert text_of(resolve(chat("a", template_variables={})).prompts[0]) == "a"


@pytest.mark.parametrize(("template", "shown"), [("{{ reasoning_effort }}", "low"), ("none", "none")])
def test_the_effort_is_a_variable_where_the_template_reads_it(template: str, shown: str) -> None:
    resolve = templated(template).resolve
    assert text_of(resolve(chat("a", reasoning_effort="low")).prompts[0]) == shown
    given = chat("a", reasoning_effort="low", template_variables={"reasoning_effort": "high"})
    assert text_of(resolve(given).prompts[0]) == ("high" if shown == "low" else shown)


def test_a_template_may_show_the_names_of_those_who_speak() -> None:
    resolve = templated("{{ messages[0]['name'] | default('?') }}").resolve
    for name, shown in ((None, "?"), ("Ann", "Ann"), ("<|im_end|>", "<|im_end|>")):
        named = GenerationRequest((ChatPrompt((ChatMessage("user", "a", name),)),))
        found = resolve(named).prompts[0]
        assert text_of(found) == shown and num_special("chatml", found) == 0


def test_a_text_is_encoded_as_the_tokenizer_does_it() -> None:
    resolver = make_resolver("llama-3")
    begin = TOKENIZERS["llama-3"].bos_token_id
    assert resolver.resolve(texts("a b", "c")).prompts == tuple(
        tuple(TOKENIZERS["llama-3"].encode(text)) for text in ("a b", "c")
    )
    tokenizer = make_tokenizer("llama-3")
    template = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", begin)]
    )
    tokenizer.backend_tokenizer.post_processor = template
    resolver = Resolver(tokenizer, model_revision="revision", max_model_len=1000)
    assert resolver.resolve(texts("a")).prompts[0][0] == begin
    assert resolver.resolve(texts("")).prompts == ((begin,),)
    assert resolver.resolve(chat("a")).prompts[0][:2].count(begin) == 1


def test_a_text_may_spell_special_tokens() -> None:
    found = make_resolver().resolve(texts("<|im_start|>user\n")).prompts[0]
    assert num_special("chatml", found) == 1


def test_token_ids_are_taken_as_they_are() -> None:
    request = GenerationRequest((TokenPrompt((5, 6)), TokenPrompt((299,))), n=2)
    resolved = make_resolver(vocab_size=300, max_model_len=10).resolve(request)
    assert (resolved.prompts, resolved.num_choices) == (((5, 6), (299,)), 4)
    # As long as the longest prompt allows.
    assert resolved.sampling.max_tokens == 8
    assert [resolved.prompt_of(choice) for choice in range(4)] == [(5, 6), (5, 6), (299,), (299,)]


@pytest.mark.parametrize(
    ("prompts", "param"),
    [
        ((TokenPrompt((5, 300)),), "prompt[1]"),
        ((TokenPrompt((5,)), TokenPrompt((-1,))), "prompt[1][0]"),
        ((TokenPrompt(()),), "prompt"),
        ((TextPrompt("a"), TextPrompt("")), "prompt[1]"),
    ],
)
def test_a_prompt_that_the_model_cannot_read_is_the_clients_fault(
    prompts: tuple[TextPrompt | TokenPrompt, ...], param: str
) -> None:
    info = refusal(make_resolver(vocab_size=300), GenerationRequest(prompts))
    assert (info.status, info.code, info.param) == (400, "invalid_value", param)


def test_a_text_that_is_too_long_is_refused_as_a_prompt() -> None:
    resolver = make_resolver(max_model_len=4)
    for request in (texts("a", "a b c"), texts("a", max_tokens=4), texts("x" * 100_000)):
        info = refusal(resolver, request)
        assert (info.status, info.param, info.code) == (400, "prompt", "context_length_exceeded")
        assert "prompt" in info.message and "messages" not in info.message


def test_no_probability_at_all_is_greedy() -> None:
    sampling = make_resolver().resolve(chat("a", top_p=0, temperature=1.5)).sampling
    assert (sampling.temperature, sampling.top_p, sampling.is_greedy) == (0, 1, True)


@pytest.mark.parametrize(
    "name",
    ["messages", "tools", "chat_template", "tokenize", "add_generation_prompt", "conversation", "self"],
)
def test_what_is_no_variable_of_the_template_is_refused(name: str) -> None:
    info = refusal(make_resolver(), chat("a", template_variables={name: True}))
    assert (info.status, info.param) == (400, f"chat_template_kwargs.{name}")


@pytest.mark.parametrize(
    "template", ["{{ x.y.z }}", "{{ 1 / x }}", "{{ x + 'a' }}", "{{ range(x) }}", "{{ x | int % 0 }}"]
)
def test_a_template_that_fails_for_its_variables_is_the_clients_fault(template: str) -> None:
    info = refusal(templated(template), chat("a", template_variables={"x": 0, "range": 1}))
    assert (info.status, info.param) == (400, "messages")


@pytest.mark.parametrize("kind", TEMPLATES)
def test_bad_words_are_the_tokens_that_spell_them_at_the_begin_of_a_text_and_within(kind: str) -> None:
    words = ["a", "im", " hi", "a", SPECIAL[kind][-1]]
    sampling = RESOLVERS[kind].resolve(chat("a", bad_words=tuple(words))).sampling
    expected: dict[tuple[int, ...], None] = {}
    for word in words:
        bare, spaced = (
            tuple(TOKENIZERS[kind].encode(space + word.lstrip(), add_special_tokens=False))
            for space in ("", " ")
        )
        expected[bare] = None
        if len(bare) == len(spaced) and bare[0] != spaced[0]:
            expected[spaced] = None
    assert sampling.bad_words == tuple(expected)


def test_include_stop_and_skip_special_tokens_are_resolved() -> None:
    resolve = make_resolver().resolve
    asked = resolve(chat("a", include_stop=True, skip_special_tokens=False)).sampling
    usual = resolve(chat("a", include_stop=False, skip_special_tokens=True)).sampling
    assert (asked.includes_stop, asked.shows_special) == (True, True)
    assert (usual.includes_stop, usual.shows_special) == (False, False)


def test_allowed_tokens_are_kept_once_and_in_order() -> None:
    asked = chat("a", allowed_token_ids=(9, 3, 9))
    assert make_resolver().resolve(asked).sampling.allowed_token_ids == (3, 9)


@pytest.mark.parametrize("kind", TEMPLATES)
@given(data=st.data())
def test_a_users_text_is_never_a_control_token(kind: str, data: st.DataObject) -> None:
    pieces = st.sampled_from([*SPECIAL[kind], *(s[:-1] for s in SPECIAL[kind]), "a", " ", "<", "<|", "\n"])
    content = "a" + "".join(data.draw(st.lists(pieces, max_size=6))) + "a"
    token_ids = RESOLVERS[kind].resolve(chat(content)).prompts[0]
    plain = RESOLVERS[kind].resolve(chat("a")).prompts[0]
    assert num_special(kind, token_ids) == num_special(kind, plain)
    expected = TOKENIZERS[kind].apply_chat_template(
        messages_of(chat(content)), tokenize=False, add_generation_prompt=True
    )
    assert TOKENIZERS[kind].backend_tokenizer.decode(token_ids, skip_special_tokens=False) == expected


def test_overlapping_control_tokens_are_all_inert() -> None:
    tokenizer = make_tokenizer("chatml")
    tokenizer.backend_tokenizer.add_special_tokens(["|>|<", "<|a|>"])
    resolver = Resolver(tokenizer, model_revision="revision", max_model_len=1000)
    token_ids = resolver.resolve(chat("<|a|>|<")).prompts[0]
    assert num_special("chatml", token_ids) == 5
    assert not {tokenizer.backend_tokenizer.token_to_id(token) for token in ("|>|<", "<|a|>")} & set(
        token_ids
    )


def test_what_a_request_says_is_taken() -> None:
    said: dict[str, Any] = {
        "temperature": 0,
        "top_p": 0.5,
        "top_k": 3,
        "min_p": 0.1,
        "repetition_penalty": 1.5,
        "presence_penalty": -1,
        "frequency_penalty": 0.5,
        "min_tokens": 2,
        "max_tokens": 7,
        "seed": 9,
        "stop": ("x", "yz"),
    }
    body = chat("a", **said, logit_bias={20: -1.5, 3: 100}, logprobs=4, n=3)
    recommended = Defaults(0.3, 0.2, 5, 0.5, 1.1, 3)
    resolved = make_resolver(defaults=recommended).resolve(body)
    assert resolved.sampling == SamplingParams(**said, logit_bias=((3, 100), (20, -1.5)), logprobs=4, n=3)
    assert resolved.model_revision == "revision"


def test_what_a_request_does_not_say_is_filled_in() -> None:
    resolver = make_resolver(max_model_len=1000)
    one, two = (resolver.resolve(chat("a")) for _ in range(2))
    room = 1000 - len(one.prompts[0])
    assert one.sampling == SamplingParams(max_tokens=room, seed=one.sampling.seed)
    assert one.sampling.seed != two.sampling.seed
    assert 0 <= one.sampling.seed < 2**63


def test_what_the_authors_recommend_is_the_default() -> None:
    recommended = Defaults(0.0, 0.9, 20, 0.05, 1.2, max_tokens=30)
    sampling = make_resolver(defaults=recommended).resolve(chat("a", seed=1)).sampling
    assert sampling == SamplingParams(
        max_tokens=30, seed=1, temperature=0.0, top_p=0.9, top_k=20, min_p=0.05, repetition_penalty=1.2
    )
    narrow = make_resolver(max_model_len=len(RESOLVERS["chatml"].resolve(chat("a")).prompts[0]) + 5)
    assert narrow.resolve(chat("a")).sampling.max_tokens == 5


@pytest.mark.parametrize(("top_k", "expected"), [(-1, None), (0, None), (1, 1), (5, 5), (10**9, None)])
def test_a_top_k_that_leaves_everything_is_none(top_k: int, expected: int | None) -> None:
    assert make_resolver().resolve(chat("a", top_k=top_k)).sampling.top_k == expected


def test_logprobs_need_no_alternatives() -> None:
    resolve = make_resolver().resolve
    requests = [chat("a"), chat("a", logprobs=0), chat("a", logprobs=2)]
    assert [resolve(request).sampling.logprobs for request in requests] == [None, 0, 2]


def test_stop_tokens_are_the_models_and_the_clients() -> None:
    resolver = make_resolver()
    (eos,) = resolver.resolve(chat("a")).stop_token_ids
    for ignore_eos in (False, True):
        both = resolver.resolve(chat("a", stop_token_ids=(9, eos, 4, 9), ignore_eos=ignore_eos))
        assert (both.stop_token_ids, both.named_stop_token_ids) == ((4, 9, eos), (4, 9, eos))
    assert resolver.resolve(chat("a", ignore_eos=True)).stop_token_ids == ()
    named = resolver.resolve(chat("a", stop_token_ids=(3,)))
    assert (named.stop_token_ids, named.named_stop_token_ids) == ((3, eos), (3,))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stop_token_ids": (0, 300)}, "stop_token_ids[1]"),
        ({"logit_bias": {5: 1, 300: 1}}, "logit_bias.300"),
        ({"logit_bias": {1_000_000_000: -100}}, "logit_bias.1000000000"),
        ({"allowed_token_ids": (299, 300)}, "allowed_token_ids[1]"),
        ({"bad_words": ("a", " \n")}, "bad_words[1]"),
        ({"min_tokens": 8, "max_tokens": 7}, "min_tokens"),
        ({"min_tokens": 1000}, "min_tokens"),
    ],
)
def test_values_that_the_model_does_not_support_are_refused(fields: dict[str, Any], param: str) -> None:
    info = refusal(make_resolver(vocab_size=300), chat("a", **fields))
    assert (info.status, info.code, info.param) == (400, "invalid_value", param)
    assert info.type == "invalid_request_error" and f"'{param}'" in info.message


def test_prompt_logprobs_are_limited_to_what_fits_in_one_event() -> None:
    resolver = make_resolver(max_model_len=10_000)
    num = len(resolver.resolve(chat("a")).prompts[0])
    longest = "a" * (1 + MAX_PROMPT_CANDIDATES // 21 - num)
    assert resolver.resolve(chat(longest, prompt_logprobs=20)).sampling.prompt_logprobs == 20
    info = refusal(resolver, chat(longest + "a", prompt_logprobs=20))
    assert (info.status, info.code, info.param) == (400, "invalid_value", "prompt_logprobs")
    assert resolver.resolve(chat(longest + "a", prompt_logprobs=0)).sampling.prompt_logprobs == 0
    assert resolver.resolve(chat("a")).sampling.prompt_logprobs is None


def test_bad_words_have_a_limit_on_their_tokens() -> None:
    words = [chr(ord("A") + i % 26) * (i // 26 + 1) for i in range(40)]
    assert make_resolver().resolve(chat("a", bad_words=tuple(words))).sampling.bad_words
    info = refusal(make_resolver(), chat("a", bad_words=tuple(f"{i:03}" + "abc" * 5 for i in range(60))))
    assert (info.status, info.code, info.param) == (400, "invalid_value", "bad_words")
    assert "they have 1080 tokens" in info.message


def test_a_bad_word_beyond_the_models_vocabulary_is_refused() -> None:
    info = refusal(make_resolver(vocab_size=256), chat("a", bad_words=("a", "<|")))
    assert (info.status, info.code, info.param) == (400, "invalid_value", "bad_words[1]")


def test_the_last_token_of_the_vocabulary_is_one() -> None:
    body = chat("a", stop_token_ids=(299,), logit_bias={299: 1})
    assert 299 in make_resolver(vocab_size=300).resolve(body).stop_token_ids


def test_a_prompt_that_fills_the_context_is_refused() -> None:
    num = len(make_resolver().resolve(chat("a")).prompts[0])
    assert refusal(make_resolver(max_model_len=num), chat("a")) == ErrorInfo(
        f"This model's maximum context length is {num} tokens. However, your messages resulted in "
        f"{num} tokens. Please reduce the length of the messages.",
        "invalid_request_error",
        "messages",
        "context_length_exceeded",
        400,
    )
    assert make_resolver(max_model_len=num + 1).resolve(chat("a")).sampling.max_tokens == 1


def test_a_prompt_of_millions_of_characters_is_refused_without_the_tokenizer() -> None:
    info = refusal(make_resolver(), chat("x" * 5_000_000))
    assert (info.status, info.param, info.code) == (400, "messages", "context_length_exceeded")
    assert "your messages have 5000" in info.message


def test_a_token_limit_that_does_not_fit_is_refused() -> None:
    num = len(make_resolver().resolve(chat("a")).prompts[0])
    resolver = make_resolver(max_model_len=num + 10)
    assert resolver.resolve(chat("a", max_tokens=10)).sampling.max_tokens == 10
    info = refusal(resolver, chat("a", max_tokens=11))
    assert (info.status, info.param, info.code) == (400, "messages", "context_length_exceeded")
    assert f"you requested {num + 11} tokens ({num} in the messages, 11 in the completion)" in info.message


def test_messages_that_the_template_refuses_are_the_clients_fault() -> None:
    info = refusal(
        make_resolver("mistral"), GenerationRequest((ChatPrompt((ChatMessage("assistant", "a"),)),))
    )
    assert info == ErrorInfo(
        "The model's chat template rejects these messages: roles must alternate user/assistant",
        "invalid_request_error",
        "messages",
        None,
        400,
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("chatml", ["<|im_end|>"]), ("llama-3", ["<|eot_id|>", "<|end_of_text|>"]), ("mistral", ["</s>"])],
)
def test_the_end_of_a_text_and_of_a_turn_stop(kind: str, expected: list[str]) -> None:
    tokenizer = TOKENIZERS[kind]
    ids = RESOLVERS[kind].resolve(chat("a")).stop_token_ids
    assert sorted(ids) == sorted(tokenizer.convert_tokens_to_ids(expected))


def test_a_model_without_chat_template_is_refused_by_name() -> None:
    tokenizer = make_tokenizer("chatml")
    tokenizer.chat_template = None
    with pytest.raises(BatonError, match="has no chat template"):
        Resolver(tokenizer, model_revision="revision", max_model_len=1000)


def write_model(directory: Path, generation: dict[str, Any] | None, **config: Any) -> Path:
    make_tokenizer("chatml").save_pretrained(directory)
    LlamaConfig(**config).save_pretrained(directory)
    if generation is not None:
        (directory / "generation_config.json").write_text(json.dumps(generation))
    return directory


def test_a_models_directory_gives_length_defaults_and_stop_tokens(tmp_path: Path) -> None:
    generation = {"eos_token_id": [1, 2], "temperature": 0.6, "top_p": 0.9}
    path = write_model(tmp_path, generation, max_position_embeddings=500, eos_token_id=3)
    eos = TOKENIZERS["chatml"].eos_token_id
    resolved = Resolver.from_directory(path, "revision").resolve(chat("a"))
    assert resolved.stop_token_ids == (1, 2, eos)
    assert (resolved.sampling.temperature, resolved.sampling.top_p) == (0.6, 0.9)
    assert resolved.sampling.max_tokens == 500 - len(resolved.prompts[0])
    shorter = Resolver.from_directory(path, "revision", 300).resolve(chat("a"))
    assert shorter.sampling.max_tokens == 300 - len(resolved.prompts[0])


def test_a_constraint_is_handed_on() -> None:
    constraint = Constraint("regex", "a+", "structured_outputs.regex")
    asked = chat("a", constraint=constraint)
    assert make_resolver().resolve(asked).sampling.constraint == constraint
    assert make_resolver().resolve(chat("a")).sampling.constraint is None


def test_ends_that_the_model_cannot_draw_stop_nothing(tmp_path: Path) -> None:
    path = write_model(tmp_path, {"eos_token_id": [1, -1, 400]}, max_position_embeddings=500, vocab_size=400)
    eos = TOKENIZERS["chatml"].eos_token_id
    assert Resolver.from_directory(path, "revision").resolve(chat("a")).stop_token_ids == (1, eos)


def test_a_models_directory_needs_no_generation_config(tmp_path: Path) -> None:
    path = write_model(tmp_path, None, max_position_embeddings=500, eos_token_id=3)
    resolved = Resolver.from_directory(path, "revision").resolve(chat("a"))
    assert resolved.stop_token_ids == (3, TOKENIZERS["chatml"].eos_token_id)
    assert (resolved.sampling.temperature, resolved.sampling.top_p) == (1.0, 1.0)


def test_a_models_directory_gives_the_vocabulary(tmp_path: Path) -> None:
    path = write_model(tmp_path, None, max_position_embeddings=500, vocab_size=1000)
    resolver = Resolver.from_directory(path, "revision")
    assert 999 in resolver.resolve(chat("a", stop_token_ids=(999,))).stop_token_ids
    assert refusal(resolver, chat("a", stop_token_ids=(1000,))).param == "stop_token_ids[0]"


def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BatonError, match="no usable tokenizer"):
        Resolver.from_directory(tmp_path, "revision")


def test_an_echo_is_the_text_as_it_was_given() -> None:
    resolver = RESOLVERS["llama-3"]
    request = GenerationRequest(
        (TextPrompt("<|eot_id|>hi"), TokenPrompt(tuple(resolver.resolve(texts("hi there")).prompts[0]))),
        sampling=SamplingOptions(echo=True),
    )
    assert resolver.resolve(request).echo == ("<|eot_id|>hi", "hi there")
    assert resolver.resolve(texts("hi")).echo == ()


def test_a_suffix_is_put_between_the_models_own_tokens() -> None:
    tokenizer = make_tokenizer("llama-3")
    names = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>")
    tokenizer.backend_tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in names])
    resolver = Resolver(tokenizer, model_revision="revision", max_model_len=1000)
    prefix, suffix, middle = (tokenizer.convert_tokens_to_ids(name) for name in names)
    (prompt,) = resolver.resolve(GenerationRequest((TextPrompt("ab", "yz"),))).prompts
    inner = [tokenizer.convert_tokens_to_ids(each) for each in "abyz"]
    assert prompt[-7:] == (prefix, *inner[:2], suffix, *inner[2:], middle)


def test_a_suffix_needs_a_model_with_such_tokens() -> None:
    assert refusal(RESOLVERS["chatml"], GenerationRequest((TextPrompt("ab", "yz"),))).param == "suffix"


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "vocab_size": 200}))
    with pytest.raises(BatonError, match=r"vocab_size 200: they do not belong together"):
        Resolver.from_directory(path, "revision")
