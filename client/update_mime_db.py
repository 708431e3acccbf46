"""Writes `client/assetlane/mime_db.json` from npm's mime-db: `make mime-db`.

mime-db is what Express, Apollo and most of the web's servers name types by: IANA's registry together with the tables
of Apache and nginx. Only the types that have endings are kept.
"""

import json
import sys
from pathlib import Path

TARGET = Path(__file__).parent / "assetlane" / "mime_db.json"


def main(package: Path) -> None:
    """Writes what the unpacked npm package says."""
    types = json.loads((package / "db.json").read_text())
    version = json.loads((package / "package.json").read_text())["version"]
    lines = [
        f"{json.dumps(name)}: {json.dumps([facts.get('source', ''), *facts['extensions']])}"
        for name, facts in types.items()
        if facts.get("extensions")
    ]
    head = {"from": f"mime-db {version}", "license": (package / "LICENSE").read_text()}
    TARGET.write_text(json.dumps(head, indent=0)[:-2] + ',\n"types": {\n' + ",\n".join(lines) + "\n}\n}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
