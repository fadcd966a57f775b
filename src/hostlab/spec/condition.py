"""Event expressions as text: `start on` and `stop on` of a `.conf`, and of YAML.

The grammar is that of Upstart's parse_on() (init/parse_job.c): `and`, `or` and parentheses, no
precedence. Meeting an operator first gathers everything to its left, so `a or b and c` is
`(a or b) and c`. A quoted `and` is an event of that name. Lines go on only inside parentheses.

The parser keeps a stack of what is open and writes the tree in postfix order as it goes, so its
depth is bounded by memory and not by the interpreter's stack.
"""

from __future__ import annotations

import re

from hostlab.spec.job import Expression, Match, Operator
from hostlab.spec.tokens import WORD_END, Scanner

_DELIMITERS = "()" + WORD_END
_PLAIN = re.compile(r"[^\s()#\"'\\]+\Z")


def parse_condition(text: str, *, file: str = "") -> Expression:
    """The expression that a text of its own means (a YAML value); SpecError with its place."""
    scanner = Scanner(text, file)
    expression = parse_on(scanner)
    scanner.skip_blanks()
    if not scanner.at_end():
        raise scanner.error("unexpected text after the expression", scanner.position)
    return expression


def parse_on(scanner: Scanner) -> Expression:
    """The expression at the scanner's position, and past the end of its last line."""
    parser = _Parser(scanner)
    while True:
        scanner.skip_blanks()
        while True:
            parser.take()
            if not scanner.has_token():
                break
        scanner.next_line()
        if scanner.at_end() or not parser.open_parentheses:
            break
    return parser.finish()


class _Parser:
    """What parse_on has gathered so far."""

    def __init__(self, scanner: Scanner) -> None:
        self.scanner = scanner
        self.nodes: list[Match | Operator] = []
        self.pending: list[str | None] = []
        """Operators waiting for their right side, and None for each open parenthesis."""
        self.opened: list[int] = []
        self.match: list[str] | None = None
        """Name and arguments of the event that is being read."""
        self.complete = False
        """The tree to the left is whole, so only an operator or `)` can follow."""

    @property
    def open_parentheses(self) -> int:
        return len(self.opened)

    def take(self) -> None:
        """Read one token."""
        match self.scanner.peek():
            case "(":
                self._open()
            case ")":
                self._close()
            case _:
                self._word()

    def finish(self) -> Expression:
        """The whole expression, when nothing more can belong to it."""
        self._collect(self.scanner.position)
        if self.opened:
            raise self.scanner.error("mismatched parentheses: never closed", self.opened[-1])
        return Expression(tuple(self.nodes))

    def _open(self) -> None:
        position = self.scanner.position
        if self.complete or self.match is not None:
            raise self.scanner.error("expected operator before '('", position)
        self.pending.append(None)
        self.opened.append(position)
        self._step_over()

    def _close(self) -> None:
        position = self.scanner.position
        self._collect(position)
        if not self.opened:
            raise self.scanner.error("mismatched parentheses: never opened", position)
        self.opened.pop()
        self.pending.pop()
        self._step_over()

    def _step_over(self) -> None:
        self.scanner.position += 1
        self.scanner.skip_blanks()

    def _word(self) -> None:
        start = self.scanner.position
        # Read with its quotes first: they turn an operator into an ordinary word.
        word = self.scanner.word(keep_quotes=True, delimiters=_DELIMITERS)
        if word in (Operator.AND, Operator.OR):
            self._collect(start)
            self.pending.append(word)
            self.complete = False
            return
        self.scanner.position = start
        word = self.scanner.word(delimiters=_DELIMITERS)
        if self.complete:
            raise self.scanner.error(f"expected operator before {word!r}", start)
        if self.match is None:
            self.match = [word]
            return
        if "=" not in word and len(self.match) > 1 and "=" in self.match[-1]:
            reason = f"expected variable: {word!r} has no name but follows one that has"
            raise self.scanner.error(reason, start)
        self.match.append(word)

    def _collect(self, position: int) -> None:
        """Make everything back to the innermost open parenthesis one tree."""
        if self.match is not None:
            self.nodes.append(Match(self.match[0], tuple(self.match[1:])))
            self.match = None
            self.complete = True
        if not self.complete:
            raise self.scanner.error("expected event", min(position, len(self.scanner.text)))
        if self.pending and (operator := self.pending[-1]) is not None:
            self.nodes.append(Operator(operator))
            self.pending.pop()


def print_condition(expression: Expression) -> str:
    """The expression with every operator in parentheses; parsing it gives an equal one."""
    pieces: list[str] = []
    opening: list[int] = []
    subtrees: list[int] = []
    # Where each subtree starts in `pieces`: an operator opens its parenthesis there.
    for node in expression.nodes:
        if isinstance(node, Match):
            subtrees.append(len(pieces))
            pieces.append(" ".join(map(quote, (node.name, *node.arguments))))
            opening.append(0)
        else:
            right, left = subtrees.pop(), subtrees[-1]
            opening[left] += 1
            pieces[right - 1] += f" {node.value} "
            pieces[-1] += ")"
    return "".join("(" * count + piece for count, piece in zip(opening, pieces, strict=True))


def quote(word: str) -> str:
    """A word as it must stand in a `.conf` so that the tokenizer gives it back.

    A quote character cannot be escaped there (`\\"` keeps its backslash), so a word that holds
    one kind of quotes is put into the other, piece by piece.
    """
    if not word:
        return '""'
    if _PLAIN.match(word) and word not in (Operator.AND, Operator.OR):
        return word
    pieces = re.split(r'("+)', word.replace("\\", "\\\\"))
    return "".join(
        f"'{piece}'" if piece.startswith('"') else f'"{piece}"' for piece in pieces if piece
    )
