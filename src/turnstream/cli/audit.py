"""`turnstream audit`: checks the chain of an audit log."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from turnstream.cli.command import Command

BROKEN = 1


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("action", choices=["verify"], help="verify: check that no record was changed")
    parser.add_argument(
        "files", metavar="FILE", nargs="+", help="the files of the log, oldest first (FILE.* FILE)"
    )
    parser.add_argument(
        "--expect",
        metavar="SEQ:HASH",
        help="a record that the log must have: the head that an earlier check printed",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: Namespace) -> int:
    import json
    from pathlib import Path

    from turnstream.audit.chain import check_files
    from turnstream.audit.records import Head
    from turnstream.errors import ConfigurationError

    expected = None
    if arguments.expect is not None:
        seq, _, hash_ = arguments.expect.partition(":")
        if not seq.isdecimal() or len(hash_) != 64:
            raise ConfigurationError("--expect is not SEQ:HASH: give the head that an earlier check printed")
        expected = Head(int(seq), hash_)
    try:
        check = check_files([Path(name) for name in arguments.files], expected=expected)
    except OSError as error:
        raise ConfigurationError(
            f"{error.filename} cannot be read ({error.strerror}): correct the path"
        ) from error
    head = f"{check.head.seq}:{check.head.hash}"
    fault = check.fault
    if arguments.json:
        result = {
            "valid": fault is None,
            "records": check.records,
            "torn_lines": check.torn,
            "head": head,
            "fault": None if fault is None else fault._asdict(),
        }
        print(json.dumps(result))
    elif fault is not None:
        where = fault.file if fault.line == 0 else f"{fault.file}, line {fault.line}"
        print(f"broken at {where}: {fault.reason} ({check.records} records before it are in order)")
    else:
        torn = f", {check.torn} torn lines are closed" if check.torn else ""
        print(f"valid: {check.records} records{torn}; head {head}")
    return 0 if fault is None else BROKEN


COMMAND = Command(
    "audit",
    "check the audit log of a server",
    "turnstream audit verify audit.jsonl\nturnstream audit verify audit.jsonl.* audit.jsonl --json",
    add_arguments,
    run,
)
