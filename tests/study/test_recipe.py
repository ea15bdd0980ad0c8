"""Rules and recipes in TOML."""

import pytest

from jsnnq.config import STE, LQNet, Uniform
from jsnnq.errors import InputError
from jsnnq.study import recipe


def written(tmp_path, text):
    file = tmp_path / "rules.toml"
    file.write_text(text)
    return file


def test_rules_keep_their_order_in_each_place(tmp_path):
    file = written(
        tmp_path,
        """
[[rule]]
layer = "layer1_0/.*"
weights = "float"
[[rule]]
layer = "sn1"
membranes = "uniform:4:grid=unsigned"
[[rule]]
layer = ".*"
weights = "lqnet:2"
membranes = "float"
""",
    )
    found = recipe.read_rules(file)
    assert found == {
        "weights": (("layer1_0/.*", None), (".*", LQNet(2))),
        "membranes": (("sn1", Uniform(4, grid="unsigned")), (".*", None)),
    }
    both = recipe.quantizers({"activations": "ste"}, file)
    assert both == {"activations": STE(), **found}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no rule: write tables"),
        ("rule = 3", "has no rule"),
        ("rule = []", "has no rule"),
        ("rule = [3]", "has no rule"),
        ("x = 3\n[[rule]]\nlayer = 'a'\nweights = 'ste'", "has 'x', and rules"),
        ("[[rules]]\nlayer = 'a'", "has 'rules'"),
        ("[[rule]]\nweights = 'ste'", "rule 1 of .* needs layer"),
        ("[[rule]]\nlayer = 'a'", "at least one of weights, membranes, activations"),
        (
            "[[rule]]\nlayer = 'a'\nweight = 'ste'",
            "rule 1 .* has 'weight': accepted",
        ),
        ("[[rule]]\nlayer = 'a'\nweights = 2", "has weights = 2: text is needed"),
        ("[[rule]]\nlayer = 'a'\nweights = 'lint'", "rule 1 of .*: unknown quantizer"),
        ("[[rule]\n", "is no TOML"),
    ],
)
def test_what_are_no_rules_is_refused_in_a_sentence(tmp_path, text, says):
    with pytest.raises(InputError, match=says):
        recipe.read_rules(written(tmp_path, text))


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "rules.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is no TOML"):
        recipe.read_rules(tmp_path / "rules.toml")
    with pytest.raises(InputError, match="cannot read"):
        recipe.read_rules(tmp_path)
