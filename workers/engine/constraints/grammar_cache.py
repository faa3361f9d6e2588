"""GrammarCache: compiled grammars by content, shared by all sequences of an engine."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from threading import Lock
from typing import NamedTuple

from llguidance import LLMatcher

from shared.domain.constraint import Constraint, ConstraintKind
from shared.errors import RequestError, invalid_request
from workers.engine.constraints.grammar import GrammarError, compile_grammar
from workers.engine.constraints.grammar_sandbox import GrammarSandbox
from workers.engine.constraints.matcher import Matcher
from workers.engine.constraints.vocabulary import Vocabulary

#: Maximum number of entries: compiled grammars, and errors of invalid ones.
MAX_GRAMMARS = 64


class _Key(NamedTuple):
    kind: ConstraintKind
    text: str

    @classmethod
    def of(cls, constraint: Constraint) -> _Key:
        return cls(constraint.kind, constraint.text)


class GrammarCache:
    """Compiles grammars and keeps the most recently used ones.

    `prepare` may be called from any thread, beside the engine's. The vocabulary is built when the first
    constraint arrives, because most engines never see one.
    """

    def __init__(self, make_vocabulary: Callable[[], Vocabulary]) -> None:
        self._make_vocabulary = make_vocabulary
        self._vocabulary: Vocabulary | None = None
        self._sandbox: GrammarSandbox | None = None
        self._known: OrderedDict[_Key, LLMatcher | GrammarError] = OrderedDict()
        self._lock = Lock()
        self._preparing = Lock()

    def prepare(self, constraint: Constraint) -> None:
        """Compile a constraint, first in the sandbox. Blocks, for seconds in the worst case.

        Raises: RequestError (400) if it is not a valid grammar or exceeds the limits.
        """
        with self._preparing:
            known = self._find(constraint) or self._compile_sandboxed(constraint)
        if isinstance(known, GrammarError):
            raise _invalid_grammar(constraint, known)

    def begin(self, constraint: Constraint, stop_token_ids: Iterable[int]) -> Matcher:
        """Return a matcher for a sequence without tokens. Fast after `prepare`.

        The constraint must have passed `prepare`, here or in another worker. Raises: RequestError as
        `prepare`.
        """
        known = self._find(constraint)
        if known is None:
            known = self._compile(constraint)
        if isinstance(known, GrammarError):
            raise _invalid_grammar(constraint, known)
        return Matcher(known.deep_copy(), lambda: self._renew(constraint), self.vocabulary, stop_token_ids)

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, constraint: Constraint) -> bool:
        return _Key.of(constraint) in self._known

    def close(self) -> None:
        """Stop the sandbox process."""
        if self._sandbox is not None:
            self._sandbox.close()

    @property
    def vocabulary(self) -> Vocabulary:
        with self._lock:
            if self._vocabulary is None:
                self._vocabulary = self._make_vocabulary()
            return self._vocabulary

    def _compile_sandboxed(self, constraint: Constraint) -> LLMatcher | GrammarError:
        if self._sandbox is None:
            self._sandbox = GrammarSandbox(self.vocabulary.tokens)
        try:
            self._sandbox.check(constraint)
        except GrammarError as error:
            return self._keep(constraint, error)
        return self._compile(constraint)

    def _compile(self, constraint: Constraint) -> LLMatcher | GrammarError:
        try:
            return self._keep(constraint, compile_grammar(self.vocabulary.tokenizer, constraint))
        except GrammarError as error:
            return self._keep(constraint, error)

    def _renew(self, constraint: Constraint) -> LLMatcher:
        fresh = compile_grammar(self.vocabulary.tokenizer, constraint)
        self._keep(constraint, fresh)
        return fresh.deep_copy()

    def _find(self, constraint: Constraint) -> LLMatcher | GrammarError | None:
        with self._lock:
            key = _Key.of(constraint)
            if key in self._known:
                self._known.move_to_end(key)
            return self._known.get(key)

    def _keep(self, constraint: Constraint, known: LLMatcher | GrammarError) -> LLMatcher | GrammarError:
        with self._lock:
            self._known[_Key.of(constraint)] = known
            while len(self._known) > MAX_GRAMMARS:
                self._known.popitem(last=False)
        return known


def _invalid_grammar(constraint: Constraint, error: GrammarError) -> RequestError:
    message = f"Invalid value for '{constraint.field}': {error}."
    return invalid_request(message, param=constraint.field, code="invalid_grammar")
