"""Of a script, what a class needs is chosen, and what it does not need does not run."""

from __future__ import annotations

from typing import Any

import pytest

from lightning_debugkit.provenance.capture.script_slice import NotFound, ScriptSlice


def sliced(text: str, *names: str) -> str:
    return ScriptSlice.of(text).text_of(names)


def made(text: str, name: str) -> Any:
    """What ``name`` is when only its statements run."""
    scope: dict[str, Any] = {"__name__": "other"}
    for _, code in ScriptSlice.of(text).code_of([name], "script.py"):
        exec(code, scope)
    return scope[name]


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("A = 1\nB = A + 1\nnet = lambda: B\n1 / 0", 2),
        ("def f():\n    return g()\n1 / 0\ndef g():\n    return 3\nnet = f", 3),
        ("C = {}\nC['a'] = 1\nC.update(b=2)\nC |= {'c': 3}\nprint(1 / 0)\nnet = lambda: C", {"a": 1, "b": 2, "c": 3}),
        ("x = [1]\nx.append(2)\nfor i in range(2):\n    x.append(i)\nnet = lambda: x", [1, 2, 0, 1]),
        ("class N:\n    pass\nN.a = 7\nnet = lambda: N.a", 7),
        (
            "try:\n    import no_module\nexcept ImportError:\n    no_module = 5\nnet = lambda: no_module",
            5,
        ),
        ("if __name__ == '__main__':\n    W = 4\n    net = lambda: W\n    1 / 0", 4),
        ("if True:\n    W = 4\nelse:\n    W = 5\nnet = lambda: W", 4),
        ("import os.path as p, sys\nnet = lambda: p.join('a', 'b')", "a/b"),
        ("from math import *\nnet = lambda: floor(2.5)", 2),
        ("a, (b, *c) = 1, (2, 3, 4)\nnet = lambda: c", [3, 4]),
        ("k = [i for i in range(3)]\ni = 1 / 1\nnet = lambda: (i, k)", (1.0, [0, 1, 2])),
        ("def outer():\n    def inner():\n        return DEEP\n    return inner()\nDEEP = 9\nnet = outer", 9),
        ("total = 0\ndef net():\n    global total\n    total += 1\n    return total\n1 / 0", 1),
        ("def net():\n    return 1\n\n1 / 0\n\ndef net():\n    return 2", 2),
        ("def old(f):\n    return lambda: f() + 1\ndef net():\n    return 1\nnet = old(net)", 2),
        ("(n := 5)\nnet = lambda: n", 5),
        ("with open(__import__('os').devnull) as f:\n    body = f.read()\nnet = lambda: body", ""),
    ],
)
def test_what_is_chosen_is_enough_and_no_more(text: str, result: Any) -> None:
    assert made(text, "net")() == result


def test_training_and_printing_are_left_out() -> None:
    text = "import wandb\nmodel = Net()\ntrainer.fit(model)\nlog.info(args)\nclass Net:\n    a = args.a\n    b = log\n"
    text = "args = parse()\nlog = logger()\ndef parse(): ...\ndef logger(): ...\n" + text
    chosen = sliced(text, "Net")
    assert all(word not in chosen for word in ("wandb", "fit", "info"))
    assert "args = parse()" in chosen


def test_a_parser_is_taken_with_its_arguments() -> None:
    text = "import argparse\np = argparse.ArgumentParser()\np.add_argument('--w', default=3)\nq = 1\nnet = p.parse_args"
    assert "add_argument" in sliced(text, "net")
    assert "q = 1" not in sliced(text, "net")


def test_names_in_annotations_written_as_text_are_taken() -> None:
    text = "from __future__ import annotations\nclass A: ...\nclass B: ...\nclass N:\n    x: A\n    y: 'list[B]'\n"
    chosen = sliced(text, "N")
    assert chosen.startswith("from __future__ import annotations")
    assert "class A" in chosen
    assert "class B" in chosen


def test_a_definition_that_was_run_again_is_taken_once_unless_it_was_used_between() -> None:
    twice = "class N:\n    a = gone()\nclass N:\n    a = 2\n"
    assert sliced(twice, "N").count("class N") == 1
    used = "class N:\n    a = 1\nM = N()\nclass N:\n    m = M\n"
    assert sliced(used, "N").count("class N") == 2
    derived = "class N:\n    a = 1\nclass N(N):\n    b = 2\n"
    assert sliced(derived, "N").count("class N") == 2


def test_line_numbers_are_those_of_the_script() -> None:
    net = made("import os\n\n\ndef net():\n    return 1 / 0\n", "net")
    assert (net.__code__.co_filename, net.__code__.co_firstlineno) == ("script.py", 4)


def test_what_ran_already_does_not_run_again() -> None:
    script = ScriptSlice.of("a = []\nb = a\nc = a\n")
    first = [place for place, _ in script.code_of(["b"], "f")]
    assert [place for place, _ in script.code_of(["c"], "f", first)] == [2]


def test_a_name_that_is_not_there_is_told() -> None:
    with pytest.raises(NotFound, match="Net is defined nowhere at its top level"):
        sliced("x = 1", "Net")


REGISTRY = """
import functools
REG = {}
def register(made):
    REG[made.__name__] = made
    return made
@register
class Block:
    width = 3
class Kept:
    kinds = []
    def __init_subclass__(cls):
        Kept.kinds.append(cls.__name__)
class First(Kept):
    pass
@functools.cache
def unrelated():
    return no_such_name
def net():
    return REG["Block"].width, Kept.kinds
1 / 0
"""


def test_definitions_that_write_themselves_into_what_is_needed_are_chosen() -> None:
    assert made(REGISTRY, "net")() == (3, ["First"])


def test_a_decorator_of_a_library_is_no_reason_to_take_a_function() -> None:
    assert "unrelated" not in sliced(REGISTRY, "net")


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("class N:\n    a = 1\nsetattr(N, 'a', 5)\nnet = lambda: N.a", 5),
        ("class N:\n    a = 1\ndef patch(kind):\n    kind.a = 5\npatch(N)\nnet = lambda: N.a", 5),
        ("C = {}\ndef fill(c, k):\n    c[k] = 5\nfill(k='k', c=C)\nnet = lambda: C", {"k": 5}),
        ("C = {}\ndef one(c):\n    c.update(k=1)\ndef two(d):\n    one(d)\ntwo(C)\nnet = lambda: C", {"k": 1}),
        ("def configure():\n    global W\n    W = 8\nconfigure()\nnet = lambda: W", 8),
        ("C = {'a': 1}\ndef configure():\n    C['a'] = 2\nconfigure()\nnet = lambda: C", {"a": 2}),
        (
            "C = {'a': 1}\ndef again(n):\n    C['a'] = n\n    if n:\n        again(n - 1)\nagain(2)\nnet = lambda: C",
            {"a": 0},
        ),
    ],
)
def test_what_a_function_of_the_script_changes_is_changed(text: str, result: Any) -> None:
    assert made(text, "net")() == result


@pytest.mark.parametrize(
    "text",
    [
        "W = 3\ndef main():\n    global W\n    W = W + 1\n    trainer.fit(1 / 0)\nmain()\nnet = lambda: W",
        "W = 3\ndef main():\n    run(1 / 0)\n    W\nmain()\nnet = lambda: W",
        "W = 3\ndef local(W):\n    W = 5\n    x = W\nlocal(1 / 0)\nnet = lambda: W",
    ],
)
def test_a_function_that_may_train_does_not_run_again(text: str) -> None:
    assert made(text, "net")() == 3
