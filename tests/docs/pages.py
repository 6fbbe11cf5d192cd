"""Runs the commands of pages as a reader would type them, and compares what they print.

A line of its own before a block says what a reader knows without it:

  <!-- file: NAME -->                 the block is the file NAME
  <!-- edit: NAME -->                 the block, a diff, changes the file NAME
  <!-- run: until "TEXT" -->          the block runs in another terminal, and has begun when it says TEXT
  <!-- run: until "TEXT", then stop -->    and is then ended with Ctrl-C
  <!-- run: fails -->                 the block ends with an error
  <!-- run by: tests/NAME/run -->     that script, or a file beside it, has these command lines, or takes
                                      them from the page, and so names it
  <!-- output -->                     the block is what the commands before it print

and between blocks

  <!-- stop: COMMAND -->              Ctrl-C in the terminal in which COMMAND runs

A block of text right after a block of commands is its output, too.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 300  # seconds for one block
BEGIN = 60  # seconds until a program in another terminal has said what it says
END = 20  # seconds from Ctrl-C to the end
WORDS_A_MINUTE = 200
WALK_THROUGH, MINUTES = "docs/moving-a-service.md", 10

OUTPUTS = ("text", "json", "console")


class Wrong(Exception):
    """A page does not do what it says."""


class Block:
    """One fenced block of a page, with the comment before it."""

    def __init__(self, line, language, comment, text, follows):
        self.line, self.language, self.comment = line, language, comment
        self.text, self.follows = text, follows

    def says(self, pattern):
        return re.fullmatch(pattern, self.comment or "")


def blocks(page):
    """The blocks of a page, and its stops, in their order."""
    lines = iter(enumerate(page.read_text().splitlines(), 1))
    comment, follows = None, False
    for number, line in lines:
        if re.match(r"\s+```", line):
            raise Wrong(f"line {number}: a block is not at the beginning of its line")
        if line.startswith("```"):
            text = []
            for _, inside in lines:
                if inside == "```":
                    break
                text.append(inside)
            language = line.removeprefix("```")
            yield Block(number, language, comment, "\n".join(text) + "\n", follows)
            comment, follows = None, language == "sh"
        elif line:
            if comment is not None:
                raise Wrong(f"line {number}: no block follows <!-- {comment} -->")
            said = re.fullmatch(r"<!-- (.*) -->", line)
            comment = said[1] if said else None
            if comment and comment.startswith("stop: "):
                yield Block(number, "stop", comment, "", False)
                comment = None
            follows = follows and line == "<!-- output -->"


class Ports:
    """A free port for each that a page names, so that nothing else on the machine is in the way."""

    NAMED = re.compile(r"""\b((?:127\.0\.0\.1|localhost)(?::|", ))(\d{2,5})\b""")

    def __init__(self):
        self._free = {}

    def replace(self, text):
        return self.NAMED.sub(lambda named: f"{named[1]}{self._for(named[2])}", text)

    def _for(self, port):
        if port not in self._free:
            with socket.socket() as listener:
                listener.bind(("127.0.0.1", 0))
                self._free[port] = listener.getsockname()[1]
        return self._free[port]


class Terminal:
    """A program that goes on while the reader types elsewhere."""

    def __init__(self, command, folder, environment, log):
        self.command, self._log = command, log
        self._program = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL,
            stdout=log.open("w"), stderr=subprocess.STDOUT, start_new_session=True,
            # Whoever started this test may be deaf to Ctrl-C; a program in a terminal is not.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def printed(self):
        return self._log.read_text(errors="replace")

    def wait_for(self, text):
        give_up = time.monotonic() + BEGIN
        while text not in self.printed():
            if self._program.poll() is not None:
                raise Wrong(f"it ended and has not said {text!r}, but\n{self.printed()}")
            if time.monotonic() > give_up:
                raise Wrong(f"after {BEGIN} s it has not said {text!r}, but\n{self.printed()}")
            time.sleep(0.05)

    def stop(self):
        self._send(signal.SIGINT)
        try:
            self._program.wait(END)
        except subprocess.TimeoutExpired:
            raise Wrong(f"{self.command!r} goes on {END} s after Ctrl-C") from None

    def close(self):
        self._send(signal.SIGTERM)
        try:
            self._program.wait(END)
        except subprocess.TimeoutExpired:
            pass
        self._send(signal.SIGKILL)
        self._program.wait()

    def _send(self, what):
        try:
            os.killpg(self._program.pid, what)
        except ProcessLookupError:
            pass


class Shell:
    """The terminal in which the reader types: what one block sets, the next one has."""

    # The blocks come as files, since what is typed must not be read by the programs.
    DRIVER = r"""
set -eEuo pipefail
trap 'echo "failed: $BASH_COMMAND" >&2' ERR
while IFS=' ' read -r fails block <&3; do
  if [[ $fails == fails ]]; then
    if (trap - ERR; . "$block") </dev/null >"$block.out" 2>&1; then code=0; else code=$?; fi
  else
    . "$block" </dev/null >"$block.out" 2>&1
    code=0
  fi
  echo "$code $PWD" >&4
done
"""

    def __init__(self, folder, environment, blocks_folder):
        self.folder, self._blocks, self._count = folder, blocks_folder, 0
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        os.set_inheritable(to_read, True)
        os.set_inheritable(to_write, True)
        driver = f"exec 3<&{to_read} 4>&{to_write}\n{self.DRIVER}"
        self._program = subprocess.Popen(
            ["bash", "-c", driver], cwd=folder, env=environment,
            stdin=subprocess.DEVNULL, pass_fds=(to_read, to_write), start_new_session=True,
        )
        os.close(to_read)
        os.close(to_write)
        self._answers = os.fdopen(self._from)
        os.set_blocking(self._from, True)

    def run(self, text, fails):
        """What the block prints."""
        self._count += 1
        block = self._blocks / str(self._count)
        block.write_text(text)
        signal.alarm(LIMIT)
        try:
            os.write(self._to, f"{'fails' if fails else 'works'} {block}\n".encode())
            answer = self._answers.readline()
        finally:
            signal.alarm(0)
        printed = Path(f"{block}.out").read_text(errors="replace")
        if not answer:
            raise Wrong(f"it fails:\n{printed}")
        code, self.folder = answer.rstrip("\n").split(" ", 1)
        if fails and code == "0":
            raise Wrong(f"it should fail, but printed\n{printed}")
        return printed

    def close(self):
        try:
            os.killpg(self._program.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._program.wait()
        self._answers.close()
        os.close(self._to)


class Page:
    """One page, in a folder of its own."""

    def __init__(self, path):
        self._path, self._ports, self._terminals, self._printed = path, Ports(), [], ""
        self._place = Path(tempfile.mkdtemp(prefix="token-broker-docs-"))
        for folder in ("reader", "temporary", "blocks"):
            (self._place / folder).mkdir()
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith("TOKEN_BROKER_")
        }
        self._environment = kept | {"TMPDIR": str(self._place / "temporary")}
        self._shell = Shell(self._place / "reader", self._environment, self._place / "blocks")

    def run(self):
        """How many blocks were run or checked."""
        done = 0
        for block in blocks(self._path):
            try:
                done += self._do(block)
            except Wrong as wrong:
                raise Wrong(f"line {block.line}: {wrong}") from None
        return done

    def _do(self, block):
        text = self._ports.replace(block.text)
        if name := block.says(r"file: (\S+)"):
            file = Path(self._shell.folder) / name[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        elif name := block.says(r"edit: (\S+)"):
            edit(Path(self._shell.folder) / name[1], text)
        elif by := block.says(r"run by: (.+)"):
            found_in(text, by[1].split(", "), os.path.relpath(self._path, ROOT))
        elif said := block.says(r"stop: (.+)"):
            self._terminal(said[1]).stop()
        elif block.comment == "output" or (block.follows and block.language in OUTPUTS):
            compare(block.text, self._printed)
        elif block.language != "sh":
            if block.comment is not None:
                raise Wrong(f"what is <!-- {block.comment} -->?")
            return 0
        elif said := block.says(r'run: until "(.+?)"(, then stop)?'):
            log = self._place / "blocks" / f"terminal-{len(self._terminals)}"
            terminal = Terminal(text, self._shell.folder, self._environment, log)
            self._terminals.append(terminal)
            terminal.wait_for(said[1])
            self._printed = terminal.printed()
            if said[2]:
                terminal.stop()
        elif block.comment is None or block.comment == "run: fails":
            self._printed = self._shell.run(text, block.comment is not None)
        else:
            raise Wrong(f"what is <!-- {block.comment} -->?")
        return 1

    def _terminal(self, command):
        for terminal in reversed(self._terminals):
            if command in terminal.command:
                return terminal
        raise Wrong(f"{command!r} runs in no terminal")

    def close(self):
        self._shell.close()
        for terminal in self._terminals:
            terminal.close()
        shutil.rmtree(self._place)


def edit(file, diff):
    """Changes a file as a diff without line numbers says."""
    before, after = [], []
    for line in diff.splitlines():
        if line[:1] not in ("+", "-", " ", ""):
            raise Wrong(f"no line of a diff: {line}")
        if not line.startswith("+"):
            before.append(line[1:])
        if not line.startswith("-"):
            after.append(line[1:])
    text, old = file.read_text(), "\n".join(before) + "\n"
    if text.count(old) != 1:
        raise Wrong(f"{file.name} has {text.count(old)} times\n{old}")
    file.write_text(text.replace(old, "\n".join(after) + "\n"))


def commands(text):
    """The command lines of a text, each with single spaces and without its comment."""
    for line in text.replace("\\\n", " ").splitlines():
        line = re.sub(r"(^|\s)#.*", "", line)
        if words := line.split():
            yield " ".join(words)


def found_in(text, scripts, page):
    """Whether scripts, or files beside them, have these command lines, or take them from the page."""
    sources, takes_them = [], False
    for script in scripts:
        path = ROOT / script
        if not path.is_file():
            raise Wrong(f"there is no {script}")
        beside = [path] if path.parent in (ROOT / "tests", ROOT / ".ci") else path.parent.rglob("*")
        for file in beside:
            if file.is_file():
                source = file.read_text(errors="replace")
                code = (line for line in source.splitlines() if not line.lstrip().startswith("#"))
                takes_them |= any(page in line for line in code)
                sources.append(" ".join(source.replace("\\\n", " ").split()))
    if takes_them:
        return
    for command in commands(text):
        if not any(command in source for source in sources):
            raise Wrong(f"{' and '.join(scripts)} have no line {command!r}")


# What differs from run to run: ids, times, durations, numbers with a point, places, and what a
# page leaves out.
VOLATILE = re.compile(
    r"…|/|\d{4}-\d\d|\d[.:]\d|[0-9a-f]{8}|^\W*\d+(ms|s|m|h|d)\W*$|\"(seq|expires_in|expiresIn)\":"
)


def compare(shown, printed):
    """Whether all lines that are shown were printed, in their order."""
    rest = iter(printed.splitlines())
    for line in shown.splitlines():
        if not line.strip() or line.strip() == "…":
            continue
        words = [r"\S+" if VOLATILE.search(word) else re.escape(word) for word in line.split()]
        if line.endswith(" …"):
            words[-1] = ".*"
        pattern = re.compile(r"\s+".join(words) + r"\s*")
        if not any(pattern.fullmatch(other.lstrip()) for other in rest):
            raise Wrong(f"this line is shown, and does not come:\n{line}\nof\n{printed}")


def late(*_):
    raise Wrong(f"it takes longer than {LIMIT} s")


def main(chosen):
    signal.signal(signal.SIGALRM, late)
    # Whoever ends the test ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    pages = [Path(page).resolve() for page in chosen] or [
        ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))
    ]
    failed = []
    for path in pages:
        name, began = os.path.relpath(path, ROOT), time.monotonic()
        page = Page(path)
        try:
            done = page.run()
        except Wrong as wrong:
            failed.append(name)
            print(f"{name}: {wrong}", file=sys.stderr)
            continue
        finally:
            page.close()
        took = time.monotonic() - began
        print(f"{name}: {done} blocks, {took:.0f} s", flush=True)
        if name == WALK_THROUGH:
            words = len(path.read_text().split())
            minutes = words / WORDS_A_MINUTE + took / 60
            print(f"  the machine takes {took:.0f} s, and {words} words are to be read: {minutes:.1f} minutes")
            if minutes > MINUTES:
                failed.append(f"{name}, which takes longer than {MINUTES} minutes")
    if failed:
        sys.exit(f"documents failed: {', '.join(failed)}")


if __name__ == "__main__":
    main(sys.argv[1:])
