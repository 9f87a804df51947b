"""Write README.md, the index of the gallery: each script's first line, its code and its picture."""

from pathlib import Path

HERE = Path(__file__).parent
HEAD = """# Gallery

What `sm.draw`, `sm.compare` and the figures show, each picture beside the code that makes it. `make gallery` makes all
of them again.
"""


def index() -> str:
    """Return the text of the index."""
    parts = [HEAD]
    for script in sorted(HERE.glob("[0-9]*.py")):
        docstring, _, code = script.read_text(encoding="utf-8").partition('"""\n')
        said = docstring.removeprefix('"""').removesuffix(".")
        title, _, more = said.partition(": ")
        more = f"{more[0].upper()}{more[1:]}.\n\n" if more else ""
        (picture,) = (path for path in HERE.glob(f"{script.stem}.*") if path.suffix != ".py")
        shown = f"[{picture.name}]({picture.name}): open it in a browser." if picture.suffix == ".html" else ""
        shown = shown or f'<img src="{picture.name}" alt="{said}" width="620">'
        listing = f"[{script.name}]({script.name}):\n\n```python\n{code.strip()}\n```\n"
        parts.append(f"## {title}\n\n{more}{shown}\n\n{listing}")
    return "\n".join(parts)


if __name__ == "__main__":
    (HERE / "README.md").write_text(index(), encoding="utf-8")
