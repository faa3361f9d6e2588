"""GrammarCache: compiled grammars by their content, for all sequences of an engine."""

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

#: How many are kept, of both kinds: those that compile, and what is wrong with the others.
MAX_GRAMMARS = 64


class _Key(NamedTuple):
    kind: ConstraintKind
    text: str

    @classmethod
    def of(cls, constraint: Constraint) -> _Key:
        return cls(constraint.kind, constraint.text)


class GrammarCache:
    """`prepare` may be called from any thread, beside the one that steps; what it has read is kept.

    The vocabulary is made when the first constraint comes: most engines never see one.
    """

    def __init__(self, make_vocabulary: Callable[[], Vocabulary]) -> None:
        self._make_vocabulary = make_vocabulary
        self._vocabulary: Vocabulary | None = None
        self._trial: GrammarSandbox | None = None
        self._known: OrderedDict[_Key, LLMatcher | GrammarError] = OrderedDict()
        self._lock = Lock()
        self._preparing = Lock()

    def prepare(self, constraint: Constraint) -> None:
        """Compiles a constraint, in a process of its own first. Blocking, for seconds at worst.

        Raises RequestError (400) where it is no grammar, or one that costs too much.
        """
        with self._preparing:
            known = self._find(constraint) or self._try(constraint)
        if isinstance(known, GrammarError):
            raise _refusal(constraint, known)

    def begin(self, constraint: Constraint, stop_token_ids: Iterable[int]) -> Matcher:
        """For a sequence without tokens. Fast after `prepare`, which must have said yes to it, here or in
        another worker. Raises RequestError as that does."""
        known = self._find(constraint)
        if known is None:
            known = self._compile(constraint)
        if isinstance(known, GrammarError):
            raise _refusal(constraint, known)
        return Matcher(known.deep_copy(), lambda: self._renew(constraint), self.vocabulary, stop_token_ids)

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, constraint: Constraint) -> bool:
        return _Key.of(constraint) in self._known

    def close(self) -> None:
        """End the process of the trials."""
        if self._trial is not None:
            self._trial.close()

    @property
    def vocabulary(self) -> Vocabulary:
        with self._lock:
            if self._vocabulary is None:
                self._vocabulary = self._make_vocabulary()
            return self._vocabulary

    def _try(self, constraint: Constraint) -> LLMatcher | GrammarError:
        if self._trial is None:
            self._trial = GrammarSandbox(self.vocabulary.tokens)
        try:
            self._trial.check(constraint)
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


def _refusal(constraint: Constraint, error: GrammarError) -> RequestError:
    message = f"Invalid value for '{constraint.field}': {error}."
    return invalid_request(message, param=constraint.field, code="invalid_grammar")
