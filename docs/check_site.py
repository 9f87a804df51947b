"""Open every page of the built site in a headless Chromium: nothing is fetched, no error, no sideways scrolling.

python docs/check_site.py docs/_build/html        # needs playwright and a Chromium
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

SKIPPED = {"genindex", "search", "py-modindex"}


def faults(page: Any, path: Path) -> list[str]:
    """Return what is wrong with a page at two widths."""
    found: list[str] = []
    page.on("console", lambda message: found.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("request", lambda request: found.append(request.url) if request.url.startswith("http") else None)
    for width in (1360, 400):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(path.as_uri())
        wide = page.evaluate("document.documentElement.scrollWidth")
        if wide > width:
            found.append(f"{wide} px wide in a window of {width}")
        missing = page.evaluate("[...document.images].filter((i) => !i.naturalWidth).map((i) => i.src)")
        found += [f"no picture {src}" for src in missing]
    return found


def main(folder: Path) -> int:
    """Check all pages; return how many are wrong."""
    from playwright.sync_api import sync_playwright

    pages = [
        path for path in sorted(folder.rglob("*.html")) if path.stem not in SKIPPED and "_static" not in path.parts
    ]
    wrong = 0
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for path in pages:
            page = browser.new_page()
            found = faults(page, path.resolve())
            page.close()
            if found:
                wrong += 1
                print(f"{path.relative_to(folder)}: {'; '.join(dict.fromkeys(found))}")
        browser.close()
    print(f"{len(pages)} pages, {wrong} with faults")
    return wrong


if __name__ == "__main__":
    sys.exit(min(main(Path(sys.argv[1])), 1))
