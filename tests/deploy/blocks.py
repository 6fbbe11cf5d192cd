"""Prints what a reader of a page types or writes: its `sh` blocks that name this test, or its first `yaml` block.

    blocks.py sh|yaml PAGE
"""

import re
import sys

MARK = "<!-- run by: tests/deploy/run -->"


def main(language, page):
    with open(page) as text:
        text = text.read()
    mark = re.escape(MARK) + "\n" if language == "sh" else ""
    blocks = re.findall(mark + rf"```{language}\n(.*?)```", text, re.DOTALL)
    if not blocks:
        sys.exit(f"{page} has no block to run")
    print("".join(blocks if language == "sh" else blocks[:1]), end="")


main(*sys.argv[1:])
