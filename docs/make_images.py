"""Draw the pictures of the pages again: run each page's code, and keep the files that it shows from `images/`.

python docs/make_images.py [PAGE.md ...]
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent.resolve()


def draw(page: Path) -> list[str]:
    """Run the Python blocks of a page in an empty folder, and copy what it saves under a name that it shows."""
    text = page.read_text(encoding="utf-8")
    shown = set(re.findall(r"images/([\w-]+\.svg)", text))
    if not shown:
        return []
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.S | re.M))
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            exec(compile(code, "script.py", "exec"), {})
        finally:
            os.chdir(before)
        drawn = sorted(name for name in shown if Path(folder, name).exists())
        for name in drawn:
            shutil.copy(Path(folder, name), HERE / "images" / name)
    return drawn


if __name__ == "__main__":
    for path in [Path(arg) for arg in sys.argv[1:]] or sorted(HERE.glob("*.md")):
        if names := draw(path):
            print(f"{path.name}: {', '.join(names)}")
