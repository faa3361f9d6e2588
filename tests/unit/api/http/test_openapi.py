"""/openapi.json shows bodies and headers of requests."""

from __future__ import annotations

import json

from api.app import DIALECTS, create_app
from api.dialects.jobs.dialect import Jobs
from api.dialects.jobs.schema import JobRequest
from api.dialects.openai_chat.message import Message
from api.dialects.openai_chat.schema import ChatRequest, read_chat
from api.http.openapi import json_schema
from api.settings import ApiSettings


def test_a_chats_body_is_shown_with_an_example() -> None:
    app = create_app(ApiSettings("redis://unused", "redis://unused", "m"))
    body = app.openapi()["paths"]["/v1/chat/completions"]["post"]["requestBody"]
    content = body["content"]["application/json"]
    shown = content["schema"]
    assert body["required"] and shown["required"] == ["model", "messages"]
    assert set(shown["properties"]) == set(ChatRequest.model_fields)
    assert shown["properties"]["temperature"]["anyOf"][0] == {"type": "number", "minimum": 0, "maximum": 2}
    assert read_chat(content["example"]).stream


def test_a_jobs_body_is_shown_with_an_example() -> None:
    app = create_app(ApiSettings("redis://unused", "redis://unused", "m"))
    post = app.openapi()["paths"]["/v1/jobs"]["post"]
    content = post["requestBody"]["content"]["application/json"]
    assert set(content["schema"]["properties"]) == set(JobRequest.model_fields)
    asked = Jobs(DIALECTS).parse(content["example"])
    assert (asked.job.priority, asked.parsed.model) == ("low", "SmolLM2-135M-Instruct")
    assert "202" in post["responses"] and "200" not in post["responses"]


def test_every_post_that_changes_a_job_shows_its_key() -> None:
    paths = create_app(ApiSettings("redis://unused", "redis://unused", "m")).openapi()["paths"]
    for path in ("/v1/chat/completions", "/v1/jobs", "/v1/jobs/{job_id}/cancel", "/v1/jobs/{job_id}/retry"):
        assert "Idempotency-Key" in [parameter["name"] for parameter in paths[path]["post"]["parameters"]]


def test_a_schema_stands_alone() -> None:
    schema = json_schema(ChatRequest)
    assert "$ref" not in json.dumps(schema) and "$defs" not in schema
    assert set(schema["properties"]) == set(ChatRequest.model_fields)
    assert schema["required"] == ["model", "messages"] and schema["additionalProperties"] is False
    message = schema["properties"]["messages"]["items"]
    assert set(message["properties"]) == set(Message.model_fields)
    text, parts = message["properties"]["content"]["anyOf"]
    assert text == {"type": "string"} and set(parts["items"]["properties"]) == {"type", "text"}
    assert schema["properties"]["stop"]["anyOf"][0] == {"type": "string"}
