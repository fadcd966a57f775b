"""Checklist §1.1: the tokenizer, one test a line and one for what it decides."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostlab.errors import SpecError
from hostlab.spec.tokens import LINE_END, Scanner

pytestmark = pytest.mark.unit

FUZZ = int(os.environ.get("HOSTLAB_FUZZ", "60"))


def words(text: str) -> tuple[str, ...]:
    return Scanner(text, "test.conf").words()


def command(text: str) -> str:
    return Scanner(text, "test.conf").command()


def failure(text: str, *, read: str = "words") -> SpecError:
    with pytest.raises(SpecError) as caught:
        getattr(Scanner(text, "test.conf"), read)()
    return caught.value


def test_whitespace_is_space_tab_and_carriage_return() -> None:
    assert words("a \t b\r c\r\n") == ("a", "b", "c")


def test_hash_ends_the_line_even_glued_to_a_word() -> None:
    assert words("foo#bar baz\n") == ("foo",)
    assert command("/bin/foo#bar\n") == "/bin/foo"
    assert command("/bin/foo '#bar' \\#x\n") == "/bin/foo '#bar' \\#x"


def test_both_quotes_are_equal_and_may_span_lines() -> None:
    assert words("'a \"b' \"c 'd\"\n") == ('a "b', "c 'd")
    assert words('"one  \n   two"\n') == ("one two",)


def test_newline_behind_a_backslash_is_one_space() -> None:
    assert command("one  \\\n   two\n") == "one two"


def test_backslash_escapes_backslash_and_blank_only() -> None:
    assert words("a\\ b c\\\\d e\\f\n") == ("a b", "c\\d", "e\\f")


def test_backslash_behind_a_blank_stays_where_it_is() -> None:
    assert command("echo \\$HOME\n") == "echo \\$HOME"


def test_escaped_quote_keeps_its_backslash() -> None:
    assert words("a\\'b\n") == ("a\\'b",)


def test_exec_keeps_its_quotes_and_others_lose_them() -> None:
    assert command("sh -c 'a  b'\n") == "sh -c 'a  b'"
    assert words("'a  b'x\n") == ("a  bx",)


def test_trailing_slash_is_an_error_with_its_place() -> None:
    error = failure("two \\")
    assert error.where is not None
    assert (error.message, error.where.column) == ("trailing slash", 5)


def test_open_quote_is_an_error_at_the_quote() -> None:
    error = failure("don't panic\n", read="command")
    assert error.where is not None
    assert (error.message, error.where.column) == ("unterminated quoted string", 4)


def test_script_block_is_raw_and_loses_common_blanks() -> None:
    scanner = Scanner('\tif "x; then\n\t\techo # no\n\tfi\n \tend \tscript # yes\nnext', "f")
    assert scanner.block("script", 0) == 'if "x; then\n\techo # no\nfi\n'
    assert scanner.word() == "next"


def test_script_block_with_an_empty_line_keeps_its_blanks() -> None:
    scanner = Scanner("  a\n\n  b\nend script\n", "f")
    assert scanner.block("script", 0) == "  a\n\n  b\n"


@pytest.mark.parametrize("line", ["end scripts", "endscript", "end script x", "x end script"])
def test_only_end_script_ends_a_block(line: str) -> None:
    scanner = Scanner(f"{line}\nend script", "f")
    assert scanner.block("script", 0) == f"{line}\n"


def test_block_without_end_is_an_error_where_it_was_opened() -> None:
    scanner = Scanner("script\n  echo\n", "f", position=7)
    with pytest.raises(SpecError, match="unterminated block") as caught:
        scanner.block("script", 0)
    assert caught.value.where is not None
    assert caught.value.where.line == 1


def test_unexpected_token_after_a_stanza() -> None:
    scanner = Scanner("more # comment\n", "f")
    with pytest.raises(SpecError, match="unexpected token 'more'"):
        scanner.end_line()


def test_empty_quotes_are_a_token() -> None:
    assert words("'' \"\"\n") == ("", "")


@settings(max_examples=FUZZ)
@given(st.text(st.sampled_from(" \t\r\n\\\"'#ab()")))
def test_every_text_has_tokens_or_an_error_with_a_place(text: str) -> None:
    scanner = Scanner(text, "f")
    try:
        while not scanner.at_end():
            scanner.skip_blanks()
            if scanner.has_token():
                assert not set(scanner.command()) & set("\n")
            else:
                assert scanner.at_end() or scanner.peek() in LINE_END
                scanner.next_line()
    except SpecError as error:
        lines = error.where.line if error.where else 0
        assert 1 <= lines <= text.count("\n") + 1
