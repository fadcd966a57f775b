"""Checklist §1.3: event expressions, one test a line; what needs jobs is in the engine's."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostlab.errors import SpecError
from hostlab.jobs.expression import Environment, Progress, Tree
from hostlab.spec.condition import parse_condition, print_condition
from hostlab.spec.job import Expression, Match, Operator

pytestmark = pytest.mark.unit

FUZZ = int(os.environ.get("HOSTLAB_FUZZ", "60"))


def printed(text: str) -> str:
    return print_condition(parse_condition(text))


def failure(text: str) -> SpecError:
    with pytest.raises(SpecError) as caught:
        parse_condition(text, file="t")
    assert caught.value.where is not None
    return caught.value


def accepts(operand: str, *event: tuple[str, str], **environment: str) -> bool:
    leaf = Tree(parse_condition(operand)).leaves[0]
    return leaf.accepts("e", event, environment)


def offer(progress: Progress[str], name: str, event: str | None = None) -> bool:
    """Whether any operand took an event of this name."""
    leaves = [leaf for leaf in progress.tree.leaves if leaf.name == name]
    taken = [progress.take(leaf, event or name) for leaf in leaves]
    return any(taken)


def test_left_association_without_precedence() -> None:
    assert printed("a or b and c") == "((a or b) and c)"
    assert printed("a and b or c and d") == "(((a and b) or c) and d)"
    assert printed("a or (b and c)") == "(a or (b and c))"


def test_postfix_order() -> None:
    assert parse_condition("a or (b X=1 and c)") == Expression(
        (Match("a"), Match("b", ("X=1",)), Match("c"), Operator.AND, Operator.OR)
    )


def test_newlines_and_comments_only_inside_parentheses() -> None:
    assert printed("(a # one\n  or b\n)") == "(a or b)"
    assert failure("a\nor b").message == "unexpected text after the expression"


def test_a_line_of_nothing_inside_parentheses_is_an_error() -> None:
    assert failure("(a or\n# only a comment\n b)").message == "expected token"


def test_quoted_operator_is_an_operand() -> None:
    assert parse_condition('"and" or "or"') == Expression((Match("and"), Match("or"), Operator.OR))
    assert printed('"and" "x y" or b') == '("and" "x y" or b)'
    assert printed("a ''") == 'a ""'


@pytest.mark.parametrize(
    ("text", "reason", "column"),
    [
        ("", "expected token", 1),
        ("a and", "expected event", 6),
        ("and a", "expected event", 1),
        ("a and and b", "expected event", 7),
        ("a (b)", "expected operator before '('", 3),
        ("(a) b", "expected operator before 'b'", 5),
        ("a)", "mismatched parentheses: never opened", 2),
        ("a or (b", "mismatched parentheses: never closed", 6),
        ("()", "expected event", 2),
        ("a K=1 2", "expected variable: '2' has no name but follows one that has", 7),
    ],
)
def test_errors_have_their_place(text: str, reason: str, column: int) -> None:
    error = failure(text)
    assert error.message == reason
    assert error.where is not None
    assert error.where.column == column


def test_nested_10_000_deep_is_read_printed_and_evaluated() -> None:
    text = "(" * 10_000 + "a" + " and b)" * 10_000
    expression = parse_condition(text)
    assert parse_condition(print_condition(expression)) == expression
    progress = Progress[str](Tree(expression))
    assert offer(progress, "a")
    assert offer(progress, "b")
    assert progress.satisfied
    assert len(progress.active()) == 10_001
    with pytest.raises(SpecError, match="never closed"):
        parse_condition("(" * 10_000 + "a")


def test_event_names_are_compared_whole() -> None:
    leaf = Tree(parse_condition("runlevel[016]")).leaves[0]
    assert not leaf.accepts("runlevel", (("RUNLEVEL", "0"),))
    assert leaf.accepts("runlevel[016]", ())


def test_match_positional_arguments_by_position() -> None:
    assert accepts("e x y", ("A", "x"), ("B", "y"))
    assert not accepts("e x y", ("B", "y"), ("A", "x"))
    assert not accepts("e x y", ("A", "x"))


def test_match_key_looks_up_and_not_equal_negates() -> None:
    assert accepts("e B=y", ("A", "x"), ("B", "y"))
    assert not accepts("e B=x", ("A", "x"), ("B", "y"))
    assert accepts("e B!=x", ("B", "y"))
    assert not accepts("e B!=y", ("B", "y"))


def test_match_globs() -> None:
    assert accepts("e [!2345]", ("RUNLEVEL", "0"))
    assert accepts("e B=/dev/*", ("B", "/dev/a/b"))


def test_missing_variable_is_no_match_even_for_not_equal() -> None:
    assert not accepts("e B!=y", ("A", "x"))


def test_value_is_expanded_and_an_error_is_silently_no_match() -> None:
    assert accepts("e B=$V", ("B", "1"), V="1")
    assert accepts("e B=${V:-2}", ("B", "2"))
    assert not accepts("e B=$V", ("B", "1"))
    assert not accepts("e B!=$V", ("B", "1"))


def test_expanded_value_is_still_a_glob() -> None:
    assert accepts("e B=$V", ("B", "eth0"), V="eth*")


def test_a_leaf_already_true_is_not_matched_again() -> None:
    progress = Progress[str](Tree(parse_condition("foo and bar")))
    assert offer(progress, "foo", "first")
    assert not offer(progress, "foo", "second")
    assert offer(progress, "bar")
    assert progress.active() == ["first", "bar"]


def test_only_true_branches_give_their_events_in_tree_order() -> None:
    progress = Progress[str](Tree(parse_condition("(a and b) or (c and d)")))
    offer(progress, "d")
    offer(progress, "b")
    offer(progress, "a")
    assert progress.satisfied
    assert progress.active() == ["a", "b"]
    assert sorted(progress.reset()) == ["a", "b", "d"]


def test_reset_makes_the_right_side_count_again() -> None:
    # init.5 says "operands to the right are only evaluated once"; its code resets the whole tree.
    progress = Progress[str](Tree(parse_condition("A and (B or C)")))
    for second in ("B", "C"):
        offer(progress, "A")
        offer(progress, second)
        assert progress.satisfied
        progress.reset()
        assert not progress.satisfied


def test_missing_names_the_operands_still_waited_for() -> None:
    progress = Progress[str](Tree(parse_condition("a and b X=1")))
    offer(progress, "a")
    assert progress.missing() == (Match("b", ("X=1",)),)


def test_restore_takes_up_what_was_held() -> None:
    progress = Progress[str](Tree(parse_condition("a and b")))
    offer(progress, "b", "held")
    again = Progress[str](progress.tree)
    again.restore(list(progress.events.items()))
    assert (again.values, again.events) == (progress.values, progress.events)


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\n\0"), min_size=1, max_size=4)
OPERANDS = st.builds(
    lambda name, positional, keyed: Match(
        name,
        (*(text.replace("=", "") for text in positional), *(f"K={text}" for text in keyed)),
    ),
    WORDS,
    st.lists(WORDS, max_size=2),
    st.lists(WORDS, max_size=2),
)
EXPRESSIONS = st.recursive(
    OPERANDS.map(lambda operand: (operand,)),
    lambda inner: st.builds(
        lambda left, right, operator: (*left, *right, operator),
        inner,
        inner,
        st.sampled_from(Operator),
    ),
    max_leaves=12,
).map(Expression)


@settings(max_examples=FUZZ)
@given(EXPRESSIONS)
def test_every_expression_is_equal_printed_and_read_again(expression: Expression) -> None:
    assert parse_condition(print_condition(expression)) == expression


def value(expression: Expression, true: set[str]) -> bool:
    """The expression's value, worked out the plain way."""
    stack: list[bool] = []
    for node in expression.nodes:
        if isinstance(node, Match):
            stack.append(node.name in true)
        else:
            right, left = stack.pop(), stack.pop()
            stack.append(left and right if node is Operator.AND else left or right)
    return stack.pop()


@settings(max_examples=FUZZ)
@given(EXPRESSIONS, st.data())
def test_progress_agrees_with_plain_evaluation(expression: Expression, data: st.DataObject) -> None:
    names = sorted({match.name for match in expression.matches})
    progress = Progress[str](Tree(expression))
    seen: set[str] = set()
    for name in data.draw(st.lists(st.sampled_from(names), max_size=8)):
        offer(progress, name)
        seen.add(name)
        assert progress.satisfied is value(expression, seen)
    assert set(progress.events.values()) == seen
    none: Environment = ()
    assert all(not leaf.accepts("", none) for leaf in progress.tree.leaves)
