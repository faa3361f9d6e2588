"""OutputBuilder: converts the drawn tokens of one choice to output that can be released."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from shared.domain.output import (
    Candidate,
    ChoiceOutput,
    Finish,
    Head,
    Op,
    Text,
    TokenLogprobs,
    finite_logprob,
)
from shared.domain.prompt_logprobs import PromptLogprobs, PromptToken
from workers.engine.resolved_request import ResolvedRequest
from workers.engine.sampling.logprobs import Scores
from workers.engine.text.detokenizer import Detokenizer
from workers.engine.text.part_builder import PartBuilder
from workers.engine.text.splitter import SPLITTERS, Splitters, make_splitter
from workers.engine.text.stop_strings import StopMatch, StopStringMatcher
from workers.engine.token_bytes import TokenBytes

_NO_HEAD = Head()


@dataclass(slots=True)
class _Pending:
    """A drawn token that is not released yet."""

    token_id: int
    text: str
    #: Position of its text in the choice's text.
    start: int
    #: Whether the text up to here ends with a complete character.
    is_whole: bool
    #: None if not requested, or for a replayed token.
    logprobs: TokenLogprobs | None = None

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    def cut(self, end: int) -> None:
        """End the choice's text at `end`. Tokens after it have no text."""
        self.text = self.text[: max(0, end - self.start)]
        if self.start >= end and self.logprobs is not None:
            self.logprobs = replace(self.logprobs, chosen=replace(self.logprobs.chosen, raw=b""))


class OutputBuilder:
    """Releases tokens when later tokens can no longer change their text, and finds the end of the choice.

    It holds back tokens that end within a character, tokens whose text may begin a stop string, and tokens whose text
    the splitter of the output format holds back. Stop strings are searched before the text is split. The released
    output depends only on the token ids, and not on how often or on which worker they were processed.

    Tokens before `min_tokens` do not end the choice. A stop string ends it only if a later token completes the string.
    If the request includes the stop string or token, it is part of the text.

    If the request echoes its prompt, the first token's text begins with it. Stop strings are not searched in it.

    Log probabilities are released with their tokens, also if these have no text. `raw` is empty if the drawn token adds
    nothing to the text: a stop token, a special token, or a token after a stop string. The log probabilities of the
    prompt are released with the first token.
    """

    def __init__(
        self,
        token_bytes: TokenBytes,
        request: ResolvedRequest,
        index: int,
        splitters: Splitters = SPLITTERS,
    ) -> None:
        """Raises RequestError if the output format is not in `splitters`."""
        sampling = request.sampling
        splitter = make_splitter(request.output_format, splitters)
        self._parts = None if splitter is None else PartBuilder(splitter)
        self._token_bytes = token_bytes
        # A constraint's text begins with the first token as it is: the grammar reads it so.
        is_first = sampling.constraint is None
        self._detokenizer = Detokenizer(token_bytes, shows_special=sampling.shows_special, is_first=is_first)
        if is_first and request.continues_text:
            self._detokenizer.follow(request.prompt_of(index))
        self._matcher = StopStringMatcher(sampling.stop, includes_stop=sampling.includes_stop)
        self._includes_stop = sampling.includes_stop
        self._max_tokens = sampling.max_tokens
        self._min_tokens = sampling.min_tokens
        self._is_hidden = sampling.prompt_only
        self._wants_logprobs = sampling.logprobs is not None and not sampling.prompt_only
        self._stop_token_ids = frozenset(request.stop_token_ids)
        self._named_stop_token_ids = request.named_stop_token_ids
        self._index = index
        self._pending: list[_Pending] = []
        self._num_chars = 0
        self._num_tokens = 0
        self._position = 0
        self._finish: Finish | None = None
        self._wants_prompt_logprobs = sampling.wants_prompt_logprobs(index)
        self._echo = request.echo_of(index)
        self._prompt_ids = request.prompt_of(index)
        self._prompt: list[PromptToken] = []
        self._prompt_texts: dict[int, str] = {}

    @property
    def num_tokens(self) -> int:
        """Number of drawn tokens."""
        return self._num_tokens

    @property
    def position(self) -> int:
        """Number of released tokens."""
        return self._position

    def read_prompt(self, tokens: Sequence[PromptToken]) -> None:
        """Take the log probabilities of the prompt's next tokens."""
        self._prompt += tokens
        for token in tokens:
            for token_id in (token.token_id, *[one for one, _ in token.top]):
                if token_id not in self._prompt_texts:
                    self._prompt_texts[token_id] = self._token_bytes.text(token_id)

    def push(
        self, token_id: int, scores: Scores | None = None, *, is_complete: bool = False
    ) -> ChoiceOutput | None:
        """Take the next token. Returns the output that can be released now, if any, with `finish` at the end.

        `is_complete`: the request's grammar allows no further token, which ends the choice.
        """
        assert self._finish is None, "the choice has ended"
        self._take(token_id, scores, is_complete=is_complete)
        num_final = len(self._pending) if self._finish else self._num_final()
        if self._parts is not None:
            num_final = self._split(self._parts, num_final)
        return self._release(num_final) if num_final else None

    def replay(self, so_far: ChoiceOutput, *, is_complete: bool = False) -> ChoiceOutput | None:
        """Take all output that another worker has released. Returns an empty output with `finish` if it is complete.

        `is_complete`: the request's grammar allows no further token.
        """
        assert self._num_tokens == 0 and so_far.start == 0
        for position, token_id in enumerate(so_far.ids, 1):
            self._take(token_id, is_complete=is_complete and position == so_far.end)
            if self._finish:
                break
        if self._parts is not None:
            self._parts.replay([pending.text for pending in self._pending], so_far.head_after)
        # The other worker released also tokens that are held back here, because it knew a further token.
        self._pending.clear()
        self._position = so_far.end
        return self._release(0) if self._finish else None

    def _take(self, token_id: int, scores: Scores | None = None, *, is_complete: bool) -> None:
        logprobs = self._logprobs(token_id, scores) if scores is not None else None
        may_end = self._num_tokens >= self._min_tokens and not self._is_hidden
        self._num_tokens += 1
        is_stop_token = may_end and token_id in self._stop_token_ids
        has_text = not self._is_hidden and (self._includes_stop or not is_stop_token)
        match = self._append(token_id, logprobs, may_end=may_end) if has_text else None
        is_end = is_stop_token or (is_complete and not self._is_hidden)
        if match is None and (is_end or self._num_tokens == self._max_tokens):
            match = self._flush(may_end=may_end)
            self._finish = Finish("stop", self._named(token_id)) if is_end else Finish("length")
        if not has_text:
            self._pending.append(_Pending(token_id, "", self._num_chars, is_whole=True, logprobs=logprobs))
            self._pending[-1].cut(self._num_chars)
        if match is not None:
            self._finish = Finish("stop", match.stop)
            for pending in self._pending:
                pending.cut(match.end)

    def _named(self, token_id: int) -> int | None:
        """Return the token if the client named it as a stop token."""
        return token_id if token_id in self._named_stop_token_ids else None

    def _append(self, token_id: int, logprobs: TokenLogprobs | None, *, may_end: bool) -> StopMatch | None:
        """Add a token and its text. Returns the stop string that it completes."""
        text = self._detokenizer.push(token_id)
        is_whole = self._detokenizer.is_whole
        self._pending.append(_Pending(token_id, text, self._num_chars, is_whole, logprobs))
        self._num_chars += len(text)
        return self._matcher.push(text, may_end=may_end) if text else None

    def _flush(self, *, may_end: bool) -> StopMatch | None:
        """Add the rest of the text to the last token. Returns the stop string that it completes."""
        text = self._detokenizer.flush()
        if not text or not self._pending:
            return None
        self._pending[-1].text += text
        self._num_chars += len(text)
        return self._matcher.push(text, may_end=may_end)

    def _logprobs(self, token_id: int, scores: Scores) -> TokenLogprobs:
        ranked = ((token_id, scores.chosen), *scores.top)
        candidates = [
            Candidate(one, self._detokenizer.raw(one), finite_logprob(logprob)) for one, logprob in ranked
        ]
        return TokenLogprobs(candidates[0], tuple(candidates[1:]))

    def _num_final(self) -> int:
        """Return how many pending tokens can no longer change."""
        end = self._num_chars - self._matcher.num_held
        for num in range(len(self._pending), 0, -1):
            last = self._pending[num - 1]
            if last.is_whole and last.end <= end:
                return num
        return 0

    def _split(self, parts: PartBuilder, num_final: int) -> int:
        """Pass the text of final tokens to the splitter. Returns how many tokens can be released then."""
        for pending in self._pending[parts.num_units : num_final]:
            parts.push(pending.text)
        if self._finish is not None:
            parts.end()
        return parts.num_whole

    def _release(self, num: int) -> ChoiceOutput:
        final, self._pending = self._pending[:num], self._pending[num:]
        start, self._position = self._position, self._position + num
        marks: dict[int, tuple[Op, ...]] | None = None
        if self._parts is not None:
            texts, marks, head = self._parts.release(num)
        else:
            texts, head = tuple([token.text for token in final]), _NO_HEAD
            if self._echo is not None and start == 0 and texts:
                # The first unit adds the prompt, then its own text.
                marks, texts = {0: tuple(map(Text, filter(None, (self._echo, texts[0]))))}, ("", *texts[1:])
        return ChoiceOutput(
            self._index,
            start,
            tuple([token.token_id for token in final]),
            texts,
            self._finish,
            tuple([token.logprobs for token in final if token.logprobs]) if self._wants_logprobs else None,
            head,
            marks,
            self._prompt_logprobs() if self._wants_prompt_logprobs and start == 0 else None,
        )

    def _prompt_logprobs(self) -> PromptLogprobs:
        if self._echo is None:
            return PromptLogprobs(tuple(self._prompt), self._prompt_texts)
        first, ids = self._prompt_ids[0], set(self._prompt_ids)
        return PromptLogprobs(
            tuple(self._prompt),
            {first: self._token_bytes.text(first), **self._prompt_texts},
            first,
            {token_id: self._token_bytes.get(token_id, is_first=False) or b"" for token_id in ids},
            self._echo,
        )
