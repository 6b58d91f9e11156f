from types import SimpleNamespace

from progrpo.report.html import code, paragraphs, prose


def test_prose_is_one_paragraph_without_the_lines_of_its_template() -> None:
    text = prose("captions.jinja", "over_k", largest=8, once=True, seeds=False)
    assert text.endswith(
        "`evaluate/pass@8`), k doubling along the axis. Dashed: the first evaluation, the same for all runs; solid: the last."
    )
    assert "\n" not in text
    assert "  " not in text


def test_sentences_that_do_not_apply_are_left_out() -> None:
    group = SimpleNamespace(other_kinds=("code",), left_out=("aime24", "aime25"))
    kinds = "Of another kind, and not averaged with it: code."
    left = "Left out, because not all runs have them under the same conditions: aime24, aime25."
    assert prose("captions.jinja", "set_apart", group=group) == f"{kinds} {left}"
    group.other_kinds = ()
    assert paragraphs("captions.jinja", "set_apart", group=group) == [left]


def test_names_in_backticks_are_code_and_the_rest_is_escaped() -> None:
    assert code("a < `b<c`") == "a &lt; <code>b&lt;c</code>"
