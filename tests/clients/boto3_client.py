"""The official `boto3` client: streams one answer of ConverseStream and prints what it accumulated, as
JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import boto3
import botocore.eventstream
import botocore.exceptions
import urllib3.exceptions
from botocore.config import Config

WEATHER = {
    "toolSpec": {
        "name": "get_weather",
        "description": "The weather somewhere",
        "inputSchema": {
            "json": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
        },
    }
}


def stream(asked: dict[str, Any], told: dict[str, Any]) -> None:
    client = boto3.client(
        "bedrock-runtime",
        endpoint_url=asked["url"],
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(
            read_timeout=asked["timeout"], connect_timeout=asked["timeout"], retries={"total_max_attempts": 1}
        ),
    )
    given: dict[str, Any] = {"toolConfig": {"tools": [WEATHER]}} if asked["tools"] else {}
    answer = client.converse_stream(
        modelId=asked["model"],
        messages=[{"role": "user", "content": [{"text": "What is the weather?"}]}],
        inferenceConfig={"maxTokens": 64},
        **given,
    )
    calls: dict[int, dict[str, Any]] = {}
    for event in answer["stream"]:
        match event:
            case {"contentBlockStart": {"contentBlockIndex": index, "start": {"toolUse": use}}}:
                calls[index] = {"id": use["toolUseId"], "name": use["name"], "input": ""}
            case {"contentBlockDelta": {"contentBlockIndex": index, "delta": delta}}:
                told["text"] += delta.get("text", "")
                told["thinking"] += delta.get("reasoningContent", {}).get("text", "")
                if "toolUse" in delta:
                    calls[index]["input"] += delta["toolUse"]["input"]
            case {"messageStop": stop}:
                told["stop_reason"] = stop["stopReason"]
            case {"metadata": {"usage": usage}}:
                told["usage"] = {
                    "input_tokens": usage["inputTokens"],
                    "output_tokens": usage["outputTokens"],
                }
            case _:
                pass
    told["calls"] = [{**call, "input": json.loads(call["input"])} for call in calls.values()]


def main() -> None:
    told: dict[str, Any] = {
        "text": "",
        "thinking": "",
        "calls": [],
        "usage": None,
        "stop_reason": None,
        "error": None,
    }
    try:
        stream(json.loads(sys.argv[1]), told)
    except botocore.exceptions.ClientError as error:
        told["error"] = error.response["Error"]["Code"]
    except (
        botocore.exceptions.BotoCoreError,
        botocore.eventstream.ParserError,
        urllib3.exceptions.HTTPError,
        OSError,
        ValueError,
    ) as error:
        told["error"] = type(error).__name__
    json.dump(told, sys.stdout)


main()
