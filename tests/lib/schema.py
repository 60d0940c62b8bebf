# SPDX-License-Identifier: LGPL-2.1-or-later
"""
etc/event.schema.json, against which every event that a test receives is held.

    schema.errors(event)     what is wrong with an event, as a list of sentences; fields that the schema does not know
                             are wrong as well, though a consumer has to ignore them
"""

import json
from pathlib import Path

import jsonschema

_schema = json.loads((Path(__file__).resolve().parents[2] / "etc" / "event.schema.json").read_text())
_validator = jsonschema.Draft7Validator(_schema, format_checker=jsonschema.FormatChecker())


def _unknown(event):
    kind = "status" if str(event.get("type")).startswith("org.virtspool.status.") else "transition"
    data = event.get("data") if isinstance(event.get("data"), dict) else {}
    return sorted(set(event) - set(_schema["properties"])) + [
        f"data.{k}" for k in data if k not in _schema["definitions"][kind]["properties"]
    ]


def errors(event):
    found = [f"{'.'.join(map(str, e.absolute_path)) or 'event'}: {e.message}" for e in _validator.iter_errors(event)]
    if isinstance(event, dict):
        found += [f"{field}: not in the schema" for field in _unknown(event)]
    return found
