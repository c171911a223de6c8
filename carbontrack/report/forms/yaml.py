"""YAML: the data of JSON, for people to read and edit."""

from __future__ import annotations

import json

from carbontrack.errors import CarbontrackError
from carbontrack.report import escape
from carbontrack.report.document import Document
from carbontrack.report.forms import Form


def _render(document: Document) -> str:
    """Raises CarbontrackError without PyYAML."""
    try:
        import yaml
    except ImportError:
        raise CarbontrackError(
            "YAML needs PyYAML.", hint="Install it: pip install pyyaml", exit_code=1
        ) from None
    data = json.loads(
        escape.json_text(document.data())
    )  # plain types, and nothing twice by reference

    def dump(*, allow_unicode: bool) -> str:
        return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=allow_unicode, width=100))

    text = dump(allow_unicode=True)
    # Signs that would move a terminal are escaped, which YAML does only to all that is not ASCII.
    return text if escape.json(text) == text else dump(allow_unicode=False)


FORM = Form(_render, (".yaml", ".yml"))
