"""/tokenize and /detokenize: what a model's tokenizer makes of a text, as in vLLM.

A worker answers, beside its jobs.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from api.answers.asking import ask
from api.dependencies import ExchangeDep, known_query, read_json
from api.dialects.tokenization import (
    DetokenizeRequest,
    TokenizeRequest,
    read_detokenize,
    read_tokenize,
    text_json,
    tokens_json,
)
from api.http.openapi import request_body
from shared.store.question import Detokenized, Tokens

router = APIRouter(dependencies=[known_query()])


@router.post("/tokenize", openapi_extra=request_body(TokenizeRequest, {"prompt": "Hello!"}))
async def tokenize(request: Request, exchange: ExchangeDep) -> dict[str, Any]:
    """The tokens of a text or of a conversation."""
    ignored: list[str] = []
    asked = read_tokenize(await read_json(request), ignored)
    exchange.report_ignored(ignored)
    return tokens_json(await ask(exchange, asked.model, asked.question(), Tokens))


@router.post("/detokenize", openapi_extra=request_body(DetokenizeRequest, {"tokens": [1, 2]}))
async def detokenize(request: Request, exchange: ExchangeDep) -> dict[str, Any]:
    """The text of token ids."""
    ignored: list[str] = []
    asked = read_detokenize(await read_json(request), ignored)
    exchange.report_ignored(ignored)
    return text_json(await ask(exchange, asked.model, asked.question(), Detokenized))
